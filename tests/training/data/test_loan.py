"""What Arrow was lent is read by nobody once it is back, however reading ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Every read but the first two, which opening takes, is on its way for long.
PROGRAM = """
import io, sys, time
from pyarrow import ArrowKeyError, csv
from training.data.loan import Loan

class Slow(io.RawIOBase):
    rows, reads, busy = b"1,2\\n" * 100_000, 0, 0
    def read(self, size=-1):
        self.reads += 1
        if self.reads > 3 and case == "stream":
            raise EOFError("the stream broke")
        self.busy += 1
        time.sleep(0.5 if self.reads > 2 else 0)
        piece, self.rows = self.rows[:size], self.rows[size:]
        self.busy -= 1
        return piece

def read(loan):
    options = csv.ReadOptions(use_threads=False, block_size=1000, column_names=["a", "b"])
    wanted = csv.ConvertOptions(include_columns=["a", "z" if case == "opening" else "b"])
    with loan:
        reader = csv.open_csv(loan.file(), read_options=options, convert_options=wanted)
        try:
            while case == "stream":
                reader.read_next_batch()
            while not stream.busy:
                time.sleep(0.01)
            raise KeyError("given up in the middle")
        finally:
            del reader

case, stream = sys.argv[1], Slow()
loan = Loan(stream)
try:
    read(loan)
except (KeyError, ArrowKeyError, EOFError) as error:
    print(error)
    assert loan.returned and not stream.busy
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("opening", "Column 'z'"),
        ("middle", "given up in the middle"),
        ("stream", "the stream broke"),
    ],
)
def test_a_process_ends_as_it_wants_to_after_a_read_that_was_given_up(case: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, case],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert said in done.stdout

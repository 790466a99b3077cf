"""Schemathesis over the OpenAPI document of a running service, as one command.

    python -m tests.fuzz.openapi --cases 20000

Examples, boundary values of every schema, random valid and invalid requests, and sequences along
the document's links, until so many cases were sent. Every answer has to be documented: its status,
media type, headers and body; no 5xx; methods that are not there get a 405, requests without a
key a 401. Exit code 1, and what was found, where something does not hold.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.target import KEY, Target, target

CONFIG = Path(__file__).with_name("schemathesis.toml")
# One round's random examples per operation; the first round has the fixed cases besides.
FEW, MANY = 3, 250
# About as many as the first round's fixed cases are; whoever asks for fewer wants them alone.
_FIXED = 2_000
_GENERATED = re.compile(r"^\s*([0-9,]+) generated", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run sent, what the service counted, and what did not hold."""

    cases: int
    seconds: float
    statuses: dict[int, int]
    findings: tuple[str, ...]

    def __str__(self) -> str:
        counted = ", ".join(f"{status}: {n:,}" for status, n in sorted(self.statuses.items()))
        sent = f"{self.cases:,} cases in {self.seconds:.0f} s; answers by status {counted}"
        if not self.findings:
            return f"{sent}; nothing found"
        return "\n\n".join([*self.findings, f"{sent}; {len(self.findings)} findings"])


def fuzz(service: Target, *, cases: int, seed: int) -> Report:
    """Send at least `cases` cases and return what came of them."""
    before, started = service.statuses(), time.monotonic()
    sent, turn = 0, 0
    findings: list[str] = []
    while sent < cases and not findings:
        examples = FEW if cases < _FIXED else MANY
        phases = "examples,coverage,fuzzing,stateful" if turn == 0 else "fuzzing,stateful"
        code, said = _schemathesis(service, phases, examples, seed + turn)
        found = _GENERATED.search(said)
        if code != 0 or found is None:
            findings.append(said)
        sent += int(found[1].replace(",", "")) if found else 0
        turn += 1
    after = service.statuses()
    statuses = {status: n - before.get(status, 0) for status, n in after.items()}
    findings += [
        f"{n} answers were {status}" for status, n in statuses.items() if n and status >= 500
    ]
    findings += [f"logged: {line}" for line in service.errors() if "exception" in line]
    if service.process.poll() is not None:
        findings.append(f"the service ended with {service.process.poll()}")
    return Report(
        cases=sent,
        seconds=time.monotonic() - started,
        statuses={status: n for status, n in statuses.items() if n},
        findings=tuple(findings),
    )


def _schemathesis(service: Target, phases: str, examples: int, seed: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
    command += [f"{service.url}/openapi.json", "--header", f"X-API-Key: {KEY}", "--no-color"]
    command += ["--phases", phases, "--max-examples", str(examples), "--seed", str(seed)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=service.log.parent
    )
    return done.returncode, done.stdout + done.stderr


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 where everything holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=20_000, help="at least so many")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="canet-fuzz-") as directory,
        target(Path(directory)) as service,
    ):
        report = fuzz(service, cases=arguments.cases, seed=arguments.seed)
    sys.stdout.write(f"{report}\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())

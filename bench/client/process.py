"""The load generator's process: one JSON job a line on standard input, one outcome a line out.

Standard output carries nothing else. A job that cannot run answers `{"error": ...}`.
"""

from __future__ import annotations

import gc
import json
import sys

import uvloop

from bench.client.job import Job
from bench.client.loops import run_job


def main() -> int:
    """Answer jobs until standard input ends."""
    gc.disable()  # a pause of the generator would be charged to the server
    for line in sys.stdin:
        values = json.loads(line)
        try:
            told = uvloop.run(run_job(Job(**{**values, "bodies": tuple(values["bodies"])})))
        except OSError as error:
            told = {"error": str(error) or type(error).__name__}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())

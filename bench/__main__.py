"""`python -m bench SUBCOMMAND`: measure the service, its ceiling and its peers on this machine.

Every subcommand is one module of this package, its name with `_` for `-`. A module exposes
`add_arguments(parser)`, which adds its options, and `run(args)`, which measures, prints and
returns nothing; a wrong argument is a ValueError. A new one is a row of SUBCOMMANDS; rows whose
module is not there are left out. Exit codes: 0 measured, 1 the measurement failed, 2 the
arguments are wrong, 143 ended by SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from bench.processes import descendants, signal_all

# One thread per network run, in this process as in the service; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_TERMINATED = 128 + signal.SIGTERM

SUBCOMMANDS = {
    "ceiling": "the service against the same stack answering a constant",
    "routed-vs-full": "what routing saves: FLOPs, CPU seconds, throughput",
    "peers": "the same full network served by LitServe and by plain FastAPI",
    "load": "open loop: the highest rate that holds a p99 objective",
    "catalog": "latency, throughput and memory from 3 k to 1 M items",
    "overload": "three times what it can take: shrinking networks against refusing alone",
    "soak": "every kind of request, swaps in between: does memory or anything else rise?",
    "cold-start": "from the start of the process to the first answer",
    "fit-plan": "fit the cost model that `canet plan` uses",
    "runtimes": "torch, AOTInductor, ONNX Runtime, OpenVINO on one submodel",
    "search": "exact and approximate top-k over large catalogs",
    "sparse-product": "scattered zeros against fewer columns: what each saves",
    "sparse-training": "accuracy against density on the supernet, and what is served of it",
    "dsl": "sparse training in its paper's own setting, against its baselines",
    "synthetic-routing": "does the router find users that are known to need more network?",
    "elastic": "one elastic checkpoint at several memory budgets, every search beside the others",
    "compression": "checkpoints compressed in different ways, and which of them is dominated",
}


def module_of(name: str) -> str:
    """Return the module behind a subcommand."""
    return f"bench.{name.replace('-', '_')}"


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; with `only`, that subcommand alone brings its options along."""
    root = argparse.ArgumentParser(prog="python -m bench", description="Measure the service.")
    commands = root.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, text in SUBCOMMANDS.items():
        if importlib.util.find_spec(module_of(name)) is None:
            continue
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if only == name:
            importlib.import_module(module_of(name)).add_arguments(command)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser(words[0] if words else None).parse_args(words)
    try:
        with _ended_by_sigterm():
            importlib.import_module(module_of(arguments.subcommand)).run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"bench {arguments.subcommand}: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        print(f"bench {arguments.subcommand}: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack meanwhile, and end the servers that were started.

    They end first: what a signal raises is lost where Python happens to run a callback, and then
    nothing is left to measure.
    """
    asked = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal_all(descendants(os.getpid()), signal.SIGTERM)
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Exception:
        if not asked:
            raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if asked:
        raise SystemExit(_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())

"""The `canet` command: parse arguments, call one command, turn its errors into exit codes.

Exit codes: 0 done; 1 the work was refused or failed, with the reason on standard error;
2 the arguments are wrong; 3 the data is wrong; 4 a checkpoint is wrong;
5 another run holds the lock; 6 the gate refused the new model; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cli import checkpoints, demo, demo_data, evaluate, plan, serve, specialize, top, train
from cli.errors import CommandError

COMMANDS = (train, specialize, evaluate, serve, top, checkpoints, demo_data, demo, plan)


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    root = argparse.ArgumentParser(
        prog="canet",
        description="Train, evaluate and serve adaptive next-item recommendation.",
        epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 3 wrong data, "
        "4 wrong checkpoint, 5 another run holds the lock, 6 refused by the gate, 130 interrupted.",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except CommandError as error:
        print(f"canet {arguments.command}: {error}", file=sys.stderr)
        return error.code
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Errors of commands that end in one sentence and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

FAILED, WRONG_ARGUMENTS, WRONG_DATA, WRONG_CHECKPOINT, BUSY, REFUSED = 1, 2, 3, 4, 5, 6


class CommandError(Exception):
    """The command ends here: the message is for a person, `code` for a script."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors a person can mend into CommandError; everything else is our fault."""
    from models.checkpoint.errors import CheckpointError
    from training.data.errors import DataError

    try:
        yield
    except DataError as error:
        raise CommandError(str(error), WRONG_DATA) from error
    except CheckpointError as error:
        raise CommandError(str(error), WRONG_CHECKPOINT) from error
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error

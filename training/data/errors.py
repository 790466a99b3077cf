"""The one error of this room that a person can fix."""


class DataError(ValueError):
    """The data cannot be used as asked; the message names what is wrong and what would help."""

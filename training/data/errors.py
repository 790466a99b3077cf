"""The errors of this room that a person can fix."""


class DataError(ValueError):
    """The data cannot be used as asked; the message names what is wrong and what would help."""


class NothingYetError(DataError):
    """There is no data at all, which on a fresh installation nobody needs to mend."""

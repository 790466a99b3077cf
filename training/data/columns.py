"""Which columns of a file hold the user, the item and the time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.errors import DataError

# Common names after lower-casing and dropping everything but letters and digits; best first.
USER_NAMES = (
    *("userid", "user", "uid", "customerid", "customer", "visitorid", "visitor", "reviewerid"),
    *("sessionid", "session", "memberid", "member", "accountid", "account", "householdid"),
    *("household", "clientid", "client", "userindex", "useridx"),
)
ITEM_NAMES = (
    *("itemid", "item", "iid", "movieid", "movie", "productid", "product", "parentasin", "asin"),
    *("articleid", "article", "trackid", "track", "songid", "song", "artistid", "bookid", "book"),
    *("gameid", "game", "newsid", "videoid", "video", "contentid", "content", "businessid"),
    *("sku", "isbn", "listingid", "itemindex", "itemidx", "externalid", "id"),
)
TIME_NAMES = (
    *("timestamp", "time", "ts", "unixreviewtime", "unixtime", "unixtimestamp", "eventtime"),
    *("occurredat", "createdat", "datetime", "date", "transactiontimestamp", "transactiondate"),
    *("tdat", "eventdate", "reviewtime", "position", "order"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """Names of the columns to read; None asks for detection by common names.

    Columns of a file without a header are called `column_1`, `column_2`, ...; naming one of
    these says that the first line is data.
    """

    user: str | None = None
    item: str | None = None
    timestamp: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names that were stated."""
        return tuple(n for n in (self.user, self.item, self.timestamp) if n is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns found, by the names they bear in the file; no timestamp means file order."""

    user: str
    item: str
    timestamp: str | None

    @property
    def names(self) -> list[str]:
        """User, item and, if there is one, timestamp."""
        return [self.user, self.item, *([self.timestamp] if self.timestamp is not None else [])]


def plain(name: str) -> str:
    """Return `name` without RecBole's type, in lower case, letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.split(":", 1)[0].lower())


def detect(found: Sequence[str], common: Sequence[str]) -> str | None:
    """Return the column of `found` bearing the best of the common names, None without one."""
    by_plain: dict[str, str] = {}
    for name in found:
        by_plain.setdefault(plain(name), name)
    return next((by_plain[name] for name in common if name in by_plain), None)


def find_column(found: Sequence[str], name: str, role: str, where: str) -> str:
    """Return the column called `name`, exactly or less RecBole's type; DataError if absent."""
    for column in found:
        if name == column or name == column.split(":", 1)[0]:
            return column
    raise DataError(
        f"{where} has no {role} column {name!r}; columns found: {', '.join(found) or 'none'}"
    )


def resolve_columns(found: Sequence[str], names: ColumnNames, where: str) -> Columns:
    """Return the user, item and timestamp columns of a file.

    Raises:
        DataError: a named column is absent, none of the common names fits, or one column would
            serve twice; the message lists the columns found.
    """
    asked = {"user": names.user, "item": names.item, "timestamp": names.timestamp}
    common = {"user": USER_NAMES, "item": ITEM_NAMES, "timestamp": TIME_NAMES}
    chosen: dict[str, str | None] = {
        role: find_column(found, name, role, where) for role, name in asked.items() if name
    }
    for role, known in common.items():
        if role not in chosen:
            free = [column for column in found if column not in chosen.values()]
            chosen[role] = detect(free, known)
    user, item = chosen["user"], chosen["item"]
    if user is None or item is None:
        role = "user" if user is None else "item"
        raise DataError(
            f"{where}: cannot tell which column holds the {role}; name it. "
            f"Columns found: {', '.join(found) or 'none'}. A file without a header has columns "
            "column_1, column_2, ..."
        )
    used = [name for name in chosen.values() if name is not None]
    if len(set(used)) != len(used):
        raise DataError(f"{where}: one column cannot serve two roles, got {', '.join(used)}")
    return Columns(user=user, item=item, timestamp=chosen["timestamp"])


def resolve_without_header(width: int, sample: Sequence[Sequence[str]], where: str) -> Columns:
    """Return the usual reading of a file without a header.

    Two columns are user, item. Three are user, item, time, unless all third values of the
    sample are numbers up to 10, which are ratings. Four and more are user, item, rating, time.

    Raises:
        DataError: the file has a single column.
    """
    if width < 2:
        raise DataError(f"{where}: a single column was found, at least user and item are needed")
    timestamp: str | None = None
    if width == 3 and not all(_is_rating(row[2]) for row in sample if len(row) > 2):
        timestamp = "column_3"
    if width > 3:
        timestamp = "column_4"
    return Columns(user="column_1", item="column_2", timestamp=timestamp)


def _is_rating(text: str) -> bool:
    try:
        return 0 <= float(text) <= 10
    except ValueError:
        return False

"""Bodies of the blocklist's routes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from service.config.store import MOST_BLOCKED
from service.http.schemas import Body, Id, all_different, problem

BlockedItems = Annotated[list[Id], Field(max_length=MOST_BLOCKED)]


class BlocklistChangeRequest(Body):
    """Items to block, and items to show again; none of them in both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"add": ["50"], "remove": ["181"]}]})

    add: BlockedItems = Field(default_factory=list)
    remove: BlockedItems = Field(default_factory=list)

    _sets = field_validator("add", "remove")(all_different)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.add and not self.remove:
            raise problem("missing", "send items to add or to remove", "add")
        if both := set(self.add) & set(self.remove):
            place = next(n for n, item in enumerate(self.remove) if item in both)
            raise problem("conflict", f"item {place} of remove stands in add too", "remove")
        return self


class BlocklistBody(Body):
    """All items that nobody is to be shown; an empty list blocks nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": ["50", "181"]}]})

    items: BlockedItems

    _sets = field_validator("items")(all_different)

"""What a supernet is made of: the grid of submodels and the frozen configuration.

Units: one multiply-add counts as two FLOPs everywhere in this project.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from models.layer_plan import layer_plan
from models.table.layout import TableLayout, dense_layout

BACKBONES = ("transformer", "nextitnet")
Head = Literal["full", "flat_lowrank", "two_level"]
HEADS: tuple[Head, ...] = ("full", "flat_lowrank", "two_level")
_SUBMODEL_NAME = re.compile(r"^d(\d+)-w(\d+)-e(\d+)(?:-l(\d+))?$")


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}")


@dataclass(frozen=True, slots=True, order=True)
class Submodel:
    """One point of the grid: `depth` layers of `width`, tables cut to `emb_width`.

    `length` is how many of the newest items it reads, 0 as many as the network can. Ordered by
    depth, then width, then embedding width, then length.
    """

    depth: int
    width: int
    emb_width: int
    length: int = 0

    @property
    def name(self) -> str:
        """The submodel's public name, for example `d4-w64-e64`, or `d4-w64-e64-l32`."""
        name = f"d{self.depth}-w{self.width}-e{self.emb_width}"
        return f"{name}-l{self.length}" if self.length else name

    @property
    def slice(self) -> Submodel:
        """The same weights, reading all that the network can: what training knows."""
        return replace(self, length=0)

    def reads(self, length: int) -> int:
        """Return how many of `length` items it reads, or of `length` padded places."""
        return min(length, self.length) if self.length else length

    @classmethod
    def parse(cls, name: str) -> Submodel:
        """Return the submodel called `name`; ValueError when it is of no form that `name` has."""
        match = _SUBMODEL_NAME.match(name)
        if match is not None:
            depth, width, emb_width, length = (int(group or 0) for group in match.groups())
            found = cls(depth=depth, width=width, emb_width=emb_width, length=length)
            if found.name == name:  # not `d04-...`: one submodel, one name
                return found
        raise ValueError(f"submodel {name!r} is not of the form 'd4-w64-e64' or 'd4-w64-e64-l32'")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """The transition memory: item-after-item counts added to every submodel's scores.

    `window` is how many of the newest items are looked up and how far ahead counts reach;
    `row_limit` is the most successors kept per item.
    """

    window: int = 5
    row_limit: int = 128

    def __post_init__(self) -> None:
        _at_least("memory.window", self.window, 1)
        _at_least("memory.row_limit", self.row_limit, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetConfig:
    """The architecture of one supernet. Axes are ascending; the last entry is the full network.

    `num_items` counts real items; row 0 of every table is padding. `max_length` is the longest
    history the network reads, in items.

    `backbone` names what stands between the tables: "transformer", where every width is divisible
    by `2 * num_heads`, so that each head's slice nests inside the head of the full network; or
    "nextitnet", dilated causal convolutions, whose depth counts residual blocks of two, the i-th
    of dilation `dilations[i % len(dilations)]` and twice that. `layer_sharing` says which layers
    share one kernel (`models/layer_plan.py`); norms and residual gains are each layer's own.
    """

    num_items: int
    max_length: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    emb_widths: tuple[int, ...]
    num_heads: int = 2
    ffn_multiplier: int = 4
    backbone: str = "transformer"
    dilations: tuple[int, ...] = (1, 4)
    layer_sharing: str = "none"
    memory: MemoryConfig | None = MemoryConfig()
    table: TableLayout | None = None
    """The item table's blocks; None stores it whole."""
    two_level: bool = False
    """Whether a softmax over blocks comes before those over items (`models/table/tokens.py`)."""

    def __post_init__(self) -> None:
        _at_least("num_items", self.num_items, 1)
        _at_least("max_length", self.max_length, 1)
        _at_least("num_heads", self.num_heads, 1)
        _at_least("ffn_multiplier", self.ffn_multiplier, 1)
        for axis in ("depths", "widths", "emb_widths"):
            values: tuple[int, ...] = getattr(self, axis)
            if not isinstance(values, tuple) or not values:
                raise ValueError(f"{axis} is {values!r}; give at least one positive integer")
            if any(value < 1 for value in values) or list(values) != sorted(set(values)):
                raise ValueError(f"{axis} is {values!r}; give ascending, distinct, positive values")
        if self.backbone not in BACKBONES:
            raise ValueError(
                f"backbone {self.backbone!r} is unknown; known are {', '.join(BACKBONES)}"
            )
        if not isinstance(self.dilations, tuple) or not self.dilations:
            raise ValueError(f"dilations are {self.dilations!r}; give at least one")
        for dilation in self.dilations:
            _at_least("dilation", dilation, 1)
        layer_plan(self.layer_sharing, 0)
        for width in self.widths if self.backbone == "transformer" else ():
            if width % (2 * self.num_heads):
                raise ValueError(
                    f"width {width} is not divisible by 2 * num_heads = {2 * self.num_heads}; "
                    "change the width or the number of heads"
                )
        if self.table is not None:
            self.table.check(self.rows, self.emb_width)
        self._check_head()

    def _check_head(self) -> None:
        if not isinstance(self.two_level, bool):
            raise ValueError(f"two_level is {self.two_level!r}; give true or false")
        if not self.two_level:
            return
        if self.table is None or not self.table.projected or len(self.table.blocks) < 2:
            raise ValueError(
                "head two_level needs an item table in at least two blocks of falling rank; give "
                "table cuts and ranks"
            )

    @property
    def depth(self) -> int:
        """Layers of the full network."""
        return self.depths[-1]

    @property
    def layer_plan(self) -> tuple[int, ...]:
        """The kernel of each layer of the full network; a block of NextItNet is two layers."""
        layers = self.depth * (2 if self.backbone == "nextitnet" else 1)
        return layer_plan(self.layer_sharing, layers)

    @property
    def width(self) -> int:
        """Hidden width of the full network."""
        return self.widths[-1]

    @property
    def emb_width(self) -> int:
        """Table width of the full network."""
        return self.emb_widths[-1]

    @property
    def rows(self) -> int:
        """Rows of the item table, padding's included."""
        return self.num_items + 1

    @property
    def layout(self) -> TableLayout:
        """The item table's layout; of a table that is stored whole, one block."""
        return self.table or dense_layout(self.rows, self.emb_width)

    @property
    def head(self) -> Head:
        """How scores become probabilities, one of HEADS."""
        if self.table is None:
            return "full"
        return "two_level" if self.two_level else "flat_lowrank"

    @property
    def tail_blocks(self) -> int:
        """How many blocks of the table have a token, T; 0 without two levels."""
        return len(self.layout.blocks) - 1 if self.two_level else 0

    @property
    def largest(self) -> Submodel:
        """The full network."""
        return Submodel(depth=self.depth, width=self.width, emb_width=self.emb_width)

    @property
    def smallest(self) -> Submodel:
        """The submodel with the least of everything."""
        return Submodel(depth=self.depths[0], width=self.widths[0], emb_width=self.emb_widths[0])

    @property
    def submodels(self) -> tuple[Submodel, ...]:
        """Every submodel of the grid, ascending; the last one is the full network."""
        return tuple(
            Submodel(depth=depth, width=width, emb_width=emb_width)
            for depth in self.depths
            for width in self.widths
            for emb_width in self.emb_widths
        )

    def with_items(self, num_items: int) -> SupernetConfig:
        """Return the same architecture for another catalog; see `TableLayout.for_rows`.

        Where that leaves one block of several, there are no two levels any more.
        """
        table = None if self.table is None else self.table.for_rows(num_items + 1)
        two_level = self.two_level and table is not None and len(table.blocks) > 1
        return replace(self, num_items=num_items, table=table, two_level=two_level)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that `from_json` reads back to an equal config.

        A table that is stored whole is not mentioned, and two levels only where there are.
        """
        values = asdict(self)
        del values["table"]
        if not self.two_level:
            del values["two_level"]
        return values if self.table is None else {**values, "table": self.table.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SupernetConfig:
        """Return the config that `to_json` wrote; ValueError on unknown or missing keys."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown architecture keys {unknown}; known are {sorted(known)}")
        missing = sorted(
            {"num_items", "max_length", "depths", "widths", "emb_widths"} - set(values)
        )
        if missing:
            raise ValueError(f"architecture keys {missing} are missing")
        arguments = dict(values)
        for axis in ("depths", "widths", "emb_widths", "dilations"):
            if axis in arguments:
                arguments[axis] = tuple(arguments[axis])
        if arguments.get("memory") is not None:
            arguments["memory"] = MemoryConfig(**arguments["memory"])
        if arguments.get("table") is not None:
            arguments["table"] = TableLayout.from_json(arguments["table"])
        return cls(**arguments)

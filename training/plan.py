"""What a training run is asked for, and the preset that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.config import SupernetConfig
from training.canet.config import CanetConfig, hyper_parameters
from training.data.columns import ColumnNames
from training.data.profile import DataProfile
from training.elastic.config import ElasticPlan
from training.fit.presets import Preset, choose_preset
from training.fit.table_plan import TableWish
from training.sparse.config import SparseConfig
from training.sparse.smaller import smaller

_GRID = ("depths", "widths", "emb_widths", "max_length", "layer_sharing")
_LAYERS = ("backbone", "layer_sharing")
_PLAN = ("epochs", "max_seconds", "threads", "sparse")
METHODS = ("supernet", "canet")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlan:
    """How to train and where to publish. None leaves a choice to the data or the preset.

    `budget` is a share of the full network's total FLOPs; without one the default price is the
    one that keeps validation NDCG@10 within half a percent of the full network. `exclude_seen`
    defaults to whether users (almost) never repeat an item. `depths`, `widths`, `emb_widths` and
    `max_length` replace those of the preset; with one of each a plain network is trained.
    `backbone` and `layer_sharing` are those of `SupernetConfig`; None is a Transformer that shares
    nothing, or what the parent is.

    `table` asks for an item table in blocks; without it the table is whole, or laid out as the
    parent's. `head` is one of HEADS; None is one softmax, or what the parent has.

    `elastic` trains the table so that it can be narrowed to any budget afterwards.

    `method` "canet" is the published joint training, with the defaults of `CanetConfig` in the
    preset's place; its default price is 0. `canet` changes those, by words NAME=VALUE.

    `sparse` keeps a part of the weights at zero; None trains as the preset says, densely but for
    compact, or, from a parent, as that was trained.
    """

    out: Path
    method: str = "supernet"
    canet: tuple[str, ...] = ()
    items: Path | None = None
    split: str = "leave-one-out"
    preset: str | None = None
    depths: tuple[int, ...] | None = None
    widths: tuple[int, ...] | None = None
    emb_widths: tuple[int, ...] | None = None
    max_length: int | None = None
    table: TableWish | None = None
    head: str | None = None
    elastic: ElasticPlan | None = None
    backbone: str | None = None
    layer_sharing: str | None = None
    seed: int = 0
    epochs: int | None = None
    max_seconds: float | None = None
    budget: float | None = None
    exclude_seen: bool | None = None
    threads: int | None = None
    sparse: SparseConfig | None = None
    resume: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest(TrainPlan):
    """What one run on a file or directory of interactions is asked for."""

    data: Path
    columns: ColumnNames | None = None
    strict: bool = False


def preset_of(plan: TrainPlan, found: DataProfile, num_items: int) -> Preset:
    """Return the preset for the data with the plan's wishes in it; ValueError when they clash."""
    canet = canet_of(plan)
    if canet is not None:
        preset = canet.preset(num_items=num_items, seed=plan.seed)
        return replace(preset, train=replace(preset.train, **_given(plan, _PLAN)))
    preset = choose_preset(found, num_items=num_items, name=plan.preset, seed=plan.seed)
    grid = replace(preset.supernet, **_given(plan, (*_GRID, "backbone")))
    if plan.sparse is not None and plan.sparse.method == "dense-small":
        grid = smaller(grid, plan.sparse.density)
    return replace(preset, supernet=grid, train=replace(preset.train, **_given(plan, _PLAN)))


def beside_parent(
    plan: TrainPlan, preset: Preset, parent: SupernetConfig
) -> tuple[Preset, str | None]:
    """Return the preset beside a parent's architecture, and what keeps it from the weights there.

    Backbone and layer sharing are the parent's where the plan does not say, also when training
    has to begin afresh.
    """
    own = {what: getattr(parent, what) for what in _LAYERS if getattr(plan, what) is None}
    grid = replace(preset.supernet, dilations=parent.dilations, **own)
    preset = replace(preset, supernet=grid)
    for what in _LAYERS:
        asked, has = getattr(grid, what), getattr(parent, what)
        if asked != has:
            return preset, f"{what.replace('_', ' ')} {asked} is asked for, the parent has {has}"
    if plan.head is not None and (plan.head == "two_level") != parent.two_level:
        return preset, f"head {plan.head} is asked for, the parent has {parent.head}"
    own_table = replace(grid, table=parent.table, two_level=parent.two_level)
    if plan.preset is not None and parent != own_table:
        return preset, f"preset {plan.preset} is not the parent's architecture"
    return preset, None


def canet_of(plan: TrainPlan) -> CanetConfig | None:
    """Return the published method's configuration with the plan's wishes, None for another method.

    ValueError for an unknown method, for hyper-parameters that are none, or for what the published
    method does not have: a preset, another backbone than the Transformer, sparse training, an
    elastic table.
    """
    if plan.method not in METHODS:
        raise ValueError(f"method {plan.method!r} is unknown; known are {', '.join(METHODS)}")
    if plan.method != "canet":
        if plan.canet:
            raise ValueError(
                f"{plan.canet[0]} is of method canet, and the method is {plan.method}; leave it "
                "out, or ask for method canet"
            )
        return None
    if plan.preset is not None:
        raise ValueError(
            f"preset {plan.preset!r} is of method supernet; leave it out, or change the grid of "
            "method canet by depths, widths, emb_widths and max_length"
        )
    if plan.sparse is not None:
        raise ValueError(
            "method canet is trained as published, with all its weights; leave the density out, or "
            "train method supernet"
        )
    if plan.elastic is not None:
        raise ValueError("method canet has no elastic table; leave --elastic out, or the method")
    if plan.backbone not in (None, "transformer"):
        raise ValueError(
            f"method canet gates the heads and layers of a Transformer; backbone {plan.backbone!r} "
            "has none: leave the backbone out, or use method supernet"
        )
    tuned: dict[str, Any] = hyper_parameters(plan.canet)
    return CanetConfig(**_given(plan, (*_GRID, "epochs")), **tuned)


def _given(plan: TrainPlan, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(plan, name)) is not None}

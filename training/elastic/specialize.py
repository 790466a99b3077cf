"""From an elastic checkpoint and a budget of bytes to a smaller checkpoint, without training."""

# G item groups, U cases, S submodels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.checkpoint.contents import Checkpoint, CheckpointContents
from models.checkpoint.elastic import ElasticEntry, Search, SpecializedEntry
from models.checkpoint.manifest import PricePoint, RouterEntry
from models.checkpoint.ranker import ranker_of
from models.config import Submodel
from models.ranker import Ranker, load_ranker
from models.table.parameters import is_table, table_of, table_state
from models.table.resident import resident_bytes
from training.data.sequences import gather
from training.data.split import EvalCases
from training.elastic.config import Choice
from training.elastic.narrow import merged, narrowing_of
from training.elastic.probe import Probe
from training.elastic.search.choose import choose
from training.elastic.search.evolution import EvolutionConfig
from training.elastic.values import expected_ndcg, problem_of
from training.evaluate.quality import cost_order, totals
from training.progress import Progress, Silent
from training.publish.frontier import Held
from training.publish.golden import golden_queries
from training.publish.publish import revision, submodel_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Specialized:
    """A checkpoint to be written, and how it came about."""

    contents: CheckpointContents
    entry: SpecializedEntry
    ranker: Ranker


def elastic_of(checkpoint: Checkpoint) -> ElasticEntry:
    """Return what is elastic about a checkpoint; ValueError when nothing is (any more)."""
    manifest = checkpoint.manifest
    if manifest.specialized is not None:
        raise ValueError(
            f"{manifest.version} was specialised from {manifest.specialized.source} to "
            f"{manifest.specialized.budget_bytes:,} bytes and cannot be specialised again; "
            f"specialise {manifest.specialized.source}"
        )
    if manifest.elastic is None:
        raise ValueError(
            f"{manifest.version} was not trained with an elastic table; train it with "
            "canet train --elastic"
        )
    return manifest.elastic


def probe_of(checkpoint: Checkpoint, cases: EvalCases) -> Probe:
    """Return a probe of an elastic checkpoint on these cases, routed at its own price."""
    manifest = checkpoint.manifest
    return Probe(
        ranker_of(checkpoint),
        narrowing_of(elastic_of(checkpoint)),
        cases,
        price=manifest.router.price,
        exclude_seen=not manifest.repeats,
    )


def specialize(
    checkpoint: Checkpoint,
    *,
    budget: int,
    search: Search = "knapsack",
    probe: Probe | None = None,
    evolution: EvolutionConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Specialized:
    """Return the checkpoint with its item table narrowed to at most `budget` resident bytes.

    Widths are chosen by `search` on the measurements that the checkpoint holds; with a `probe`
    (which evolution needs) the choice is measured on its validation cases besides.

    The router predicts what it did, since it does not read an elastic table; its price stays. The
    price curve is drawn again: FLOPs from the checkpoint's routing sample and the new costs, NDCG
    scaled by what the widths cost. Golden answers are the narrowed network's own.

    ValueError when the checkpoint is not elastic or already specialised, when the budget is below
    the least feasible one, which the message names, or for evolution without a probe.
    """
    entry = elastic_of(checkpoint)
    narrowing = narrowing_of(entry)
    problem = problem_of(entry, budget, len(checkpoint.config.emb_widths))
    config = evolution or EvolutionConfig(seed=seed)
    steps = config.labels + config.rounds * config.checked if search == "evolution" else 1
    with (progress or Silent()).track(f"searching widths: {search}", steps) as advance:
        choice_G = choose(
            search,
            problem,
            label=None if probe is None else lambda some_G: float(probe.ndcg(some_G).mean()),
            evolution=config,
            seed=seed,
            advance=advance,
        )
    widths = narrowing.elastic.widths_of(choice_G)
    expected = expected_ndcg(entry, widths)
    measured = None if probe is None else float(probe.ndcg(choice_G).mean())
    ranker, tensors = _narrowed(checkpoint, choice_G)
    assert ranker.config.table is not None
    done = SpecializedEntry(
        source=checkpoint.version,
        search=search,
        budget_bytes=budget,
        table_bytes=resident_bytes(ranker.config.table, len(ranker.config.emb_widths)),
        widths=widths,
        expected_ndcg_10=expected,
        measured_ndcg_10=measured,
    )
    base = entry.uniform_ndcg_10[-1]
    kept = (expected if measured is None else measured) / base if base > 0 else 1.0
    return Specialized(
        contents=_contents(checkpoint, ranker, tensors, done, kept),
        entry=done,
        ranker=ranker,
    )


def _narrowed(checkpoint: Checkpoint, choice_G: Choice) -> tuple[Ranker, dict[str, Tensor]]:
    """Return the narrowed network, its submodels by rising cost, and its tensors by name."""
    narrowing = narrowing_of(elastic_of(checkpoint))
    before = checkpoint.config
    state = {
        name.removeprefix("supernet."): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith("supernet.")
    }
    table = table_of(state, before.table, before.emb_width)
    narrow, item_bias_V = narrowing(table, state["item_bias"], choice_G)
    layout = narrowing.elastic.layout(choice_G)
    config = replace(before, table=layout)
    state = {name: tensor for name, tensor in state.items() if not is_table(name)}
    state |= {**table_state(merged(narrow, layout), blocked=True), "item_bias": item_bias_V}
    tensors = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if not name.startswith("supernet.")
    }
    tensors |= {f"supernet.{name}": tensor.contiguous() for name, tensor in state.items()}
    served = [Submodel.parse(one.name) for one in checkpoint.manifest.submodels]
    hidden = checkpoint.manifest.router.hidden
    ranker = load_ranker(config, tensors, served, router_hidden=hidden)
    order = cost_order(ranker)
    if order != sorted(order):
        for name in ("router.output.weight", "router.output.bias"):
            tensors[name] = tensors[name][torch.tensor(order)].contiguous()
        ranker = load_ranker(
            config, tensors, [served[place] for place in order], router_hidden=hidden
        )
    return ranker, tensors


def _contents(
    checkpoint: Checkpoint,
    ranker: Ranker,
    tensors: dict[str, Tensor],
    done: SpecializedEntry,
    kept: float,
) -> CheckpointContents:
    manifest = checkpoint.manifest
    entry = elastic_of(checkpoint)
    names = [one.name for one in ranker.served]
    before = [one.name for one in manifest.submodels]
    prices = [point.price for point in manifest.router.price_curve]
    curve = _curve(entry, ranker, [before.index(name) for name in names], prices, kept)
    metrics = {"full_table_validation_ndcg_10": entry.uniform_ndcg_10[-1]}
    metrics["expected_validation_ndcg_10"] = done.expected_ndcg_10
    if done.measured_ndcg_10 is not None:
        metrics["measured_validation_ndcg_10"] = done.measured_ndcg_10
    return CheckpointContents(
        config=ranker.config,
        submodels=submodel_entries(ranker),
        router=RouterEntry(
            submodels=tuple(names),
            hidden=manifest.router.hidden,
            features=manifest.router.features,
            price=manifest.router.price,
            price_curve=curve,
        ),
        tensors=tensors,
        catalog=checkpoint.catalog,
        popular=checkpoint.popular,
        golden=golden_queries(ranker, checkpoint.catalog, _golden_cases(checkpoint)),
        evaluation={"specialized": done.model_dump(mode="json")},
        metrics=metrics,
        training=manifest.training,
        repeats=manifest.repeats,
        data_until=manifest.data_until,
        code_revision=revision(),
        parent=checkpoint.version,
        specialized=done,
    )


def _curve(
    entry: ElasticEntry,
    ranker: Ranker,
    order: Sequence[int],
    prices: Sequence[float],
    kept: float,
) -> tuple[PricePoint, ...]:
    """Return the curve of `prices`, and of the one where everybody gets the cheapest submodel.

    Costs are the narrowed network's; `kept` is the share of NDCG that is left.
    """
    sample = entry.routing
    lengths_U = torch.tensor(sample.buckets)
    cost_US, full_U = totals(ranker, lengths_U)
    held = Held(
        quality_US=np.array(sample.quality)[:, order],
        ndcg_US=np.array(sample.ndcg_10)[:, order],
        cost_US=cost_US,
        full_U=full_U,
        unit=float(ranker.full_cost(ranker.config.max_length).total),
    )
    points = held.frontier(np.unique([*prices, held.highest_price()]))
    return tuple(
        PricePoint(
            price=point.price,
            flops_ratio=point.flops_ratio,
            ndcg_10=min(1.0, point.ndcg_10 * kept),
        )
        for point in points
    )


def _golden_cases(checkpoint: Checkpoint) -> EvalCases:
    """Return the histories of the checkpoint's golden answers; nobody's target."""
    histories = list(dict.fromkeys(query.history for query in checkpoint.golden))
    rows = [checkpoint.catalog.encode(history)[0] for history in histories]
    stops = np.cumsum([len(row) for row in rows]).astype(np.int64)
    return EvalCases(
        histories=gather(
            np.concatenate(rows).astype(np.int64), np.concatenate([[0], stops[:-1]]), stops
        ),
        targets=np.ones(len(rows), dtype=np.int64),
        users=np.arange(len(rows), dtype=np.int64),
    )

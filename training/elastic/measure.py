"""Measure an elastic table on validation once, so that it can be narrowed later without data."""

# U cases, S submodels, G item groups, W widths

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.elastic import MAX_SAMPLE, ElasticEntry, RoutingSample
from models.ranker import Ranker
from training.data.split import EvalCases
from training.elastic.narrow import Calibration, Narrowing
from training.elastic.order import block_orders
from training.elastic.probe import Probe
from training.evaluate.quality import lengths_read, routed_places, totals
from training.fit.cases import sample_cases
from training.progress import Progress
from training.publish.route import Routed

MOST_CASES = 2_000
_LEAST_CASES = 300
# About two minutes of a core; histories that are dear to encode are measured on fewer cases.
_FLOPS = 2_000_000_000_000
_ROUTING_CASES = 400


def measure(
    routed: Routed,
    calibration: Calibration,
    cases: EvalCases,
    traffic_V: NDArray[np.int64],
    *,
    exclude_seen: bool,
    seed: int,
    progress: Progress,
) -> ElasticEntry:
    """Return what a checkpoint says of its elastic table.

    `cases` are the validation cases that `routed` was made of, in their order; a sample of them is
    ranked. `traffic_V` counts the training interactions of every row. Where groups keep blocks, the
    order of these is decided first, on the same sample.
    """
    narrowing = calibration.narrowing()
    narrowing = Narrowing(
        elastic=narrowing.elastic,
        scale_GW=narrowing.scale_GW.detach(),
        bias_GW=narrowing.bias_GW.detach(),
    )
    elastic = narrowing.elastic
    runs = len(elastic.stops) * (len(elastic.widths) - 1) + 2 * len(elastic.widths)
    most = int(_FLOPS / runs / _mean_flops(routed.ranker, cases, routed.price))
    sample = sample_cases(cases, max(_LEAST_CASES, min(MOST_CASES, most)), seed)
    progress.log(
        f"measuring {len(elastic.stops)} item groups at widths {list(elastic.widths)} on "
        f"{len(sample):,} validation cases"
    )
    probe = Probe(routed.ranker, narrowing, sample, price=routed.price, exclude_seen=exclude_seen)
    orders = None
    if elastic.blocks is not None:
        orders = block_orders(elastic, routed.ranker.table.dense(), probe.queries())
        probe.ordered(orders)
    alone = probe.alone(progress)
    uniform = [np.full(len(elastic.stops), place) for place in range(len(elastic.widths))]
    traffic_G = np.add.reduceat(traffic_V, elastic.starts).astype(np.float64)
    return ElasticEntry(
        stops=elastic.stops,
        widths=elastic.widths,
        scale=_rows(narrowing.scale_GW.numpy()),
        bias=_rows(narrowing.bias_GW.numpy()),
        cases=len(sample),
        divergence=_rows(alone.divergence_GW),
        log_rank=_rows(alone.log_rank_GW),
        uniform_ndcg_10=tuple(float(probe.ndcg(choice_G).mean()) for choice_G in uniform),
        exposure=_rows(np.stack([probe.exposure(choice_G) for choice_G in uniform]).round(6)),
        traffic=tuple((traffic_G / max(1.0, traffic_G.sum())).round(6).tolist()),
        routing=_routing_sample(routed, cases, seed),
        orders=orders,
    )


def _mean_flops(ranker: Ranker, cases: EvalCases, price: float) -> float:
    cost_US, _ = totals(ranker, lengths_read(ranker, cases.histories))
    return float(cost_US[np.arange(len(cases)), routed_places(ranker, cases, price)].mean())


def _routing_sample(routed: Routed, cases: EvalCases, seed: int) -> RoutingSample:
    """Return some of the validation cases as the router saw them, no items among them."""
    most = min(MAX_SAMPLE, _ROUTING_CASES)
    chosen = np.arange(len(cases))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng((seed, 3)).choice(chosen, most, replace=False))
    longest = routed.ranker.config.max_length
    lengths = np.minimum(cases.histories.lengths()[chosen], longest)
    return RoutingSample(
        buckets=tuple(routed.ranker.bucket(length) for length in lengths.tolist()),
        quality=_rows(routed.quality_US[chosen].astype(np.float64).round(6)),
        ndcg_10=_rows(routed.ndcg_US[chosen].round(6)),
    )


def _rows(matrix: NDArray[np.floating]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in matrix)

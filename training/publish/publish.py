"""Write the trained, routed and tested model as a checkpoint and move CURRENT."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from models.checkpoint.contents import CheckpointContents
from models.checkpoint.elastic import ElasticEntry
from models.checkpoint.manifest import PricePoint, RouterEntry, SubmodelEntry
from models.checkpoint.store import current
from models.checkpoint.write import write_checkpoint
from models.ranker import Ranker
from training.data.catalog_build import popular_items
from training.data.interactions import Interactions
from training.data.split import Split
from training.evaluate.evaluation import Evaluation
from training.fit.fitted import Fitted
from training.fit.router_fit import HIDDEN
from training.publish.golden import golden_queries
from training.publish.route import Routed

_POPULAR = 10_000


def publish(
    root: Path,
    *,
    interactions: Interactions,
    split: Split,
    fitted: Fitted,
    routed: Routed,
    evaluation: Evaluation,
    training: Mapping[str, Any],
    repeats: bool,
    make_current: bool = True,
    elastic: ElasticEntry | None = None,
) -> str:
    """Return the new version; CheckpointError when it cannot be written.

    CURRENT names it if `make_current`. What CURRENT named before becomes the parent.
    """
    report = interactions.report
    ranker = routed.ranker
    router = ranker.router
    assert router is not None
    contents = CheckpointContents(
        config=ranker.config,
        submodels=submodel_entries(ranker),
        router=RouterEntry(
            submodels=tuple(submodel.name for submodel in ranker.served),
            hidden=HIDDEN,
            features=router.hidden.in_features,
            price=routed.price,
            price_curve=tuple(
                PricePoint(price=point.price, flops_ratio=point.flops_ratio, ndcg_10=point.ndcg_10)
                for point in routed.points
            ),
        ),
        tensors=tensors(fitted, routed),
        catalog=split.catalog,
        popular=popular_items(interactions, limit=_POPULAR),
        golden=golden_queries(ranker, split.catalog, split.validation),
        evaluation=evaluation.to_json(),
        metrics=evaluation.metrics(),
        training=dict(training),
        repeats=repeats,
        data_until=(
            datetime.fromtimestamp(report.last_time_ms / 1000, UTC).isoformat()
            if interactions.has_times
            else None
        ),
        code_revision=revision(),
        parent=current(root) if root.is_dir() else None,
        elastic=elastic,
    )
    return write_checkpoint(root, contents, make_current=make_current)


def tensors(fitted: Fitted, routed: Routed) -> dict[str, Tensor]:
    """Return every tensor of the checkpoint under its published name."""
    router = routed.ranker.router
    assert router is not None
    named = {f"supernet.{name}": t for name, t in fitted.supernet.state_dict().items()}
    named.update({f"router.{name}": tensor for name, tensor in router.state_dict().items()})
    if fitted.memory is not None:
        named["memory.offsets"] = fitted.memory.offsets
        named["memory.items"] = fitted.memory.items
        named["memory.weights"] = fitted.memory.weights
    return {name: tensor.detach().contiguous() for name, tensor in named.items()}


def submodel_entries(ranker: Ranker) -> list[SubmodelEntry]:
    """Return the manifest's entry of every served submodel, at full length, router charged."""
    most = ranker.config.max_length
    full = ranker.full_cost(most).total
    entries = []
    for place, submodel in enumerate(ranker.served):
        cost = ranker.cost(place, most, routed=True)
        entries.append(
            SubmodelEntry(
                name=submodel.name,
                flops_router=cost.router,
                flops_encoder=cost.encoder,
                flops_scoring=cost.scoring,
                flops_ratio=cost.total / full,
                body_bytes=ranker.body_bytes_of(place),
            )
        )
    return entries


def revision() -> str:
    """Return what made a checkpoint: the distribution and its version."""
    try:
        return f"canet-serve {version('canet-serve')}"
    except PackageNotFoundError:
        return "canet-serve"

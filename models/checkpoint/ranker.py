"""From a verified checkpoint to the ranker that training, evaluation and the service share."""

from __future__ import annotations

from models.checkpoint.contents import Checkpoint
from models.config import Submodel
from models.ranker import Ranker, load_ranker


def ranker_of(checkpoint: Checkpoint) -> Ranker:
    """Return the ranker of the checkpoint's served submodels; its tensors are adopted."""
    return load_ranker(
        checkpoint.config,
        checkpoint.tensors,
        [Submodel.parse(entry.name) for entry in checkpoint.manifest.submodels],
        router_hidden=checkpoint.manifest.router.hidden,
    )

"""What a training takes over from a checkpoint that was trained sparsely, and what it may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.sparse.config import SparseConfig


def inherited(training: Mapping[str, Any], asked: SparseConfig | None) -> SparseConfig | None:
    """Return the sparse training of a run that starts from a checkpoint: as asked, else as it was.

    `training` is what the checkpoint's manifest notes. ValueError when a smaller network is asked
    for, or when it was trained by a release with other options.
    """
    if asked is not None:
        if asked.method == "dense-small":
            raise ValueError(
                "sparse method dense-small is another architecture than the live model's; train "
                "it without --refresh"
            )
        return asked
    config = training.get("config")
    noted = config.get("sparse") if isinstance(config, Mapping) else None
    if noted is None:
        return None
    try:
        return SparseConfig.from_json(noted)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error}; say --density again") from error

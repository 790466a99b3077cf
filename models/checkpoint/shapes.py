"""Which tensors a manifest promises: read off the modules themselves, without their memory."""

from __future__ import annotations

from typing import Final

import torch

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.manifest import Manifest
from models.checkpoint.tensors import TensorSpec
from models.router import FEATURE_SETS, Router
from models.supernet import Supernet

SUPERNET_PREFIX: Final = "supernet."
ROUTER_PREFIX: Final = "router."


def expected_shapes(manifest: Manifest) -> dict[str, TensorSpec]:
    """Return name -> shape and dtype of the supernet's and the router's state, prefixed.

    The modules are built on the meta device: nothing is allocated, whatever the manifest says.
    Raises CheckpointError `bad_manifest` when the router reads other features than this release.
    """
    known = FEATURE_SETS if manifest.config.memory is not None else FEATURE_SETS[:1]
    if manifest.router.features not in known:
        raise CheckpointError(
            Reason.BAD_MANIFEST,
            f"the router reads {manifest.router.features} features; this release computes "
            f"{' or '.join(map(str, known))} here, so train it again",
        )
    with torch.device("meta"):
        supernet = Supernet(manifest.config)
        router = Router(
            features=manifest.router.features,
            hidden=manifest.router.hidden,
            num_submodels=len(manifest.router.submodels),
        )
    return {
        prefix + name: TensorSpec(shape=tuple(tensor.shape), dtype=tensor.dtype)
        for prefix, module in ((SUPERNET_PREFIX, supernet), (ROUTER_PREFIX, router))
        for name, tensor in module.state_dict().items()
    }

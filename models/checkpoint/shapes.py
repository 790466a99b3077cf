"""Which tensors a manifest promises: read off the modules themselves, without their memory."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch

from models.checkpoint.manifest import Manifest
from models.checkpoint.tensors import TensorSpec

SUPERNET_PREFIX = "supernet."
ROUTER_PREFIX = "router."

Shapes = Callable[[Manifest], dict[str, TensorSpec]]


def expected_shapes(manifest: Manifest) -> dict[str, TensorSpec]:
    """Return name -> shape and dtype of the supernet's and the router's state, prefixed.

    The modules are built on the meta device: nothing is allocated, whatever the manifest says.
    """
    # Loaded by name until both modules stand.
    supernet_class = importlib.import_module("models.supernet").Supernet
    router_class = importlib.import_module("models.router").Router
    with torch.device("meta"):
        supernet = supernet_class(manifest.config)
        router = router_class(
            features=manifest.router.features,
            hidden=manifest.router.hidden,
            num_submodels=len(manifest.router.submodels),
        )
    return {
        prefix + name: TensorSpec(shape=tuple(tensor.shape), dtype=tensor.dtype)
        for prefix, module in ((SUPERNET_PREFIX, supernet), (ROUTER_PREFIX, router))
        for name, tensor in module.state_dict().items()
    }

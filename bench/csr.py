"""Compressed sparse rows, checked, without the warnings that torch gives once per process."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def to_csr(matrix: Tensor) -> Tensor:
    """Return the dense or COO matrix as CSR."""
    checked = torch.sparse.check_sparse_tensor_invariants()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings(), checked:
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()

"""What every test of training runs in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, and numbers as the rest of the tests expect them afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    # Training flushes denormals for the process, which other tests' floats do not expect.
    torch.set_flush_denormal(False)

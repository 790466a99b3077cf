"""The router sees the same of items whether a table is whole, in blocks, or still changing."""

from __future__ import annotations

import numpy as np
import pytest

from models.router import ITEM_STATISTICS, TABLE_COLUMNS, ItemView
from models.table.layout import TableLayout
from models.table.table import whole_table
from tests.models.builders import (
    COLUMNS,
    PREFIXES,
    PROJECTED,
    random_memory,
    random_supernet,
    small_config,
)


@pytest.mark.parametrize("table", [PROJECTED, PREFIXES, COLUMNS])
def test_a_table_in_blocks_is_seen_as_its_whole_form(table: TableLayout) -> None:
    config = small_config(table=table)
    items, memory = random_supernet(config).item_table, random_memory(config)
    whole = ItemView(whole_table(items.dense()), memory)
    blocked = ItemView(items, memory)
    ids = np.arange(42).reshape(6, 7) % 41
    assert blocked(ids).shape == (6, 7, ITEM_STATISTICS + TABLE_COLUMNS)
    assert np.allclose(blocked(ids), whole(ids), atol=1e-6)
    assert not blocked(ids)[0, 0].any()
    assert blocked.num_bytes == 4 * 41 * ITEM_STATISTICS < whole.num_bytes


def test_a_live_view_follows_the_table() -> None:
    supernet = random_supernet(small_config())
    view = ItemView(supernet.item_table, None, live=True)
    before = view(np.array([3]))
    supernet.table[3] += 1
    assert np.allclose(view(np.array([3]))[0, 3:15], before[0, 3:15] + 1)

"""What the network really executed: shapes seen at its doors, counted by torch's own counter."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.body import Body, TorchBody
from models.ranker import Ranker
from models.router import NEWEST
from models.search.contract import Found
from models.search.search import CatalogSearch


class Executed:
    """Every call of the router, an encoder or the scoring, on whichever runtime it ran.

    Shapes are recorded where the engine hands them over; FLOPs are those that torch's counter
    finds when the reference network runs on one history of that shape, times the histories. Where
    the catalog is searched, no torch runs: the multiply-adds are the search's own count, which
    tests/models/search/test_multiply_adds.py holds against the calls of its innermost functions.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.routed = 0
        self.encoded: Counter[tuple[int, int]] = Counter()
        """Histories by (place of the submodel, length that its body was handed)."""
        self.scored: Counter[int] = Counter()
        """Queries by embedding width."""
        self.searched = 0
        """Multiply-adds of searches."""
        self.memory_entries = 0
        self.ranker: Ranker | None = None
        self._spy(monkeypatch)

    def flops(self) -> dict[str, int]:
        """FLOPs executed by part."""
        assert self.ranker is not None, "nothing ran"
        return {
            "router": self.routed * router_flops(self.ranker),
            "encoder": sum(
                count * encoder_flops(self.ranker, place, length)
                for (place, length), count in self.encoded.items()
            ),
            "scoring": 2 * (self.memory_entries + self.searched)
            + sum(
                count * scoring_flops(self.ranker.config.num_items, width)
                for width, count in self.scored.items()
            ),
        }

    def full(self, history_length: int) -> dict[str, int]:
        """What the full network would have executed for such a history, memory left out."""
        assert self.ranker is not None, "nothing ran"
        bucket = self.ranker.bucket(history_length)
        return {
            "router": 0,
            "encoder": encoder_flops(self.ranker, len(self.ranker.served) - 1, bucket),
            "scoring": scoring_flops(
                self.ranker.config.num_items, self.ranker.served[-1].emb_width
            ),
        }

    def _spy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quality, encode, scores = Ranker.quality, Ranker.encode, Ranker.scores

        def spy_quality(ranker: Ranker, recent_BW: Any, lengths_B: Any) -> Any:
            self.routed += len(recent_BW)
            return quality(ranker, recent_BW, lengths_B)

        def spy_encode(ranker: Ranker, place: int, item_ids_BL: Any, lengths_B: Any) -> Any:
            if ranker is not self.ranker:
                assert self.ranker is None, "one model at a time"
                self.ranker = ranker
                bodies = [
                    _Watched(body, place, self.encoded) for place, body in enumerate(ranker._bodies)
                ]
                monkeypatch.setattr(ranker, "_bodies", bodies)
            return encode(ranker, place, item_ids_BL, lengths_B)

        def spy_score(ranker: Ranker, query_BE: Any, gains_B: Any, recent_BW: Any) -> Any:
            self.scored[query_BE.shape[1]] += len(query_BE)
            self._read_memory(ranker, recent_BW)
            return scores(ranker, query_BE, gains_B, recent_BW)

        additions, top = Ranker.additions, CatalogSearch.top

        def spy_additions(ranker: Ranker, recent_BW: Any, gains_B: Any) -> Any:
            self._read_memory(ranker, recent_BW)
            return additions(ranker, recent_BW, gains_B)

        def spy_top(search: CatalogSearch, query_BE: Any, wanted: Any) -> list[Found]:
            found = top(search, query_BE, wanted)
            self.searched += sum(one.multiply_adds for one in found)
            return found

        monkeypatch.setattr(Ranker, "additions", spy_additions)
        monkeypatch.setattr(CatalogSearch, "top", spy_top)
        monkeypatch.setattr(Ranker, "quality", spy_quality)
        monkeypatch.setattr(Ranker, "encode", spy_encode)
        monkeypatch.setattr(Ranker, "scores", spy_score)

    def _read_memory(self, ranker: Ranker, recent_BW: Any) -> None:
        memory = ranker.memory
        assert memory is not None
        rows = np.asarray(recent_BW).reshape(-1)
        offsets = memory.offsets.numpy()
        self.memory_entries += int((offsets[rows + 1] - offsets[rows]).sum())


class _Watched:
    """A body that counts the histories it is handed."""

    def __init__(self, body: Body, place: int, encoded: Counter[tuple[int, int]]) -> None:
        self._body = body
        self._place = place
        self._encoded = encoded

    def __call__(self, embedded_BLE: Any, lengths_B: Any) -> Any:
        self._encoded[self._place, embedded_BLE.shape[1]] += len(embedded_BLE)
        return self._body(embedded_BLE, lengths_B)


def router_flops(ranker: Ranker) -> int:
    """What torch's counter finds, and the most that looking up the memory's surprise costs."""
    assert ranker.router is not None
    assert ranker.memory is not None
    longest = int(np.diff(ranker.memory.offsets.numpy()).max())
    with FlopCounterMode(display=False) as counter:
        ranker.router(torch.zeros(1, ranker.router.hidden.in_features))
    return int(counter.get_total_flops()) + 2 * (NEWEST - 1) * longest


@cache
def encoder_flops(ranker: Ranker, place: int, length: int) -> int:
    body = TorchBody(ranker._weights[place])
    embedded_BLE = np.zeros((1, length, ranker.served[place].emb_width), dtype=np.float32)
    # The counter does not know the CPU's fused attention kernel; the plain one it does.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        body(embedded_BLE, np.array([length]))
    return int(counter.get_total_flops())


@cache
def scoring_flops(num_items: int, emb_width: int) -> int:
    with FlopCounterMode(display=False) as counter:
        torch.addmm(
            torch.zeros(num_items + 1),
            torch.zeros(1, emb_width),
            torch.zeros(emb_width, num_items + 1),
        )
    return int(counter.get_total_flops())

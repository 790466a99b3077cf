"""The full network as a peer would serve it: torch, eager, on the checkpoint's own weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import redis
import torch

from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.network import encode_all
from models.ranker import stack
from models.submodel import extract
from models.supernet import Supernet

HISTORY_MAX = 100


class FullNetwork:
    """The largest submodel of a checkpoint, transition memory included; nothing is routed."""

    def __init__(self, root: Path) -> None:
        torch.set_num_threads(1)
        version = current(root)
        assert version is not None, f"{root} has no CURRENT"
        checkpoint = read_checkpoint(root / version)
        self._ranker = ranker_of(checkpoint)
        served = self._ranker.served
        self._place = len(served) - 1
        with torch.device("meta"):
            supernet = Supernet(checkpoint.config)
        supernet.load_state_dict(
            {
                name.removeprefix("supernet."): tensor
                for name, tensor in checkpoint.tensors.items()
                if name.startswith("supernet.")
            },
            assign=True,
        )
        self._weights = extract(supernet, served[-1])
        self._catalog = checkpoint.catalog

    @torch.inference_mode()
    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """Return the k best item ids of every history, seen items excluded, best first.

        One batch, padded to its longest history. Every history holds a known item.
        """
        rows = [self._catalog.encode(history)[0] for history in histories]
        longest = min(max(map(len, rows)), self._ranker.config.max_length)
        ids_BL, lengths_B = stack(rows, longest)
        # As a model's own code does it: every position through torch, then the last one's.
        encoded_BLE = encode_all(self._weights, torch.from_numpy(ids_BL))
        last_B = torch.from_numpy(lengths_B) - 1
        query_BE = encoded_BLE[torch.arange(len(last_B)), last_B].numpy()
        scores_BV = self._ranker.score(self._place, query_BE, ids_BL, lengths_B)
        for scores_V, seen in zip(scores_BV, rows, strict=True):
            scores_V[seen] = -torch.inf
        best_BK = torch.topk(scores_BV, k, dim=1).indices
        return [[self._catalog.external_id(row) for row in best] for best in best_BK.tolist()]


class UserHistories:
    """Users' histories as plain Redis lists, one LRANGE per read, over a pool of connections."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, decode_responses=True)

    def recent(self, user_id: str) -> list[str]:
        """Return the newest external ids, oldest first; one round trip."""
        items: list[str] = self._client.lrange(_key(user_id), -HISTORY_MAX, -1)  # type: ignore[assignment]
        return items

    def write(self, user_id: str, items: Sequence[str]) -> None:
        """Store a history, oldest first."""
        self._client.rpush(_key(user_id), *items)


def _key(user_id: str) -> str:
    return f"peer:{user_id}"


def told(items: Sequence[str]) -> dict[str, object]:
    """Return the answer's JSON: what a caller needs, nothing of compute or versions."""
    return {"items": [{"item_id": item, "rank": rank} for rank, item in enumerate(items, 1)]}

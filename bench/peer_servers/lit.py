"""The peer that is made for models: LitServe with its dynamic batching.

    python -m bench.peer_servers.lit --models ROOT --redis URL --port N

As LitServe's documentation advises: the model is loaded in `setup`, `decode_request` turns the
body into an input, `predict` gets a batch of up to 16 that waited 2 ms at most (the service's
own limits), one worker.
"""

# No postponed annotations here: LitServe reads the body's model from `decode_request`.

import sys
from pathlib import Path
from typing import Any

import litserve

from bench.peer_servers.network import FullNetwork, UserHistories, told
from bench.peer_servers.plain_fastapi import PeerRequest, peer_arguments
from service.settings import Settings


class PeerApi(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    """Histories in, items out."""

    def __init__(self, root: Path, redis_url: str) -> None:
        fields = Settings.model_fields
        super().__init__(
            max_batch_size=fields["max_batch"].default,
            batch_timeout=fields["batch_wait_ms"].default / 1000,
            api_path="/recommend",
        )
        self._root = root
        self._redis_url = redis_url

    def setup(self, device: str) -> None:
        """Load the model, once per worker."""
        self._network = FullNetwork(self._root)
        self._users = UserHistories(self._redis_url)

    def decode_request(self, request: PeerRequest, **kwargs: Any) -> tuple[list[str], int]:
        """Return the user's history and how many items are wanted."""
        return self._users.recent(request.user_id), request.k

    def predict(self, x: list[tuple[list[str], int]], **kwargs: Any) -> list[list[str]]:
        """Return the best items of every history in the batch."""
        most = max(k for _, k in x)
        found = self._network.recommend([history for history, _ in x], most)
        return [items[:k] for items, (_, k) in zip(found, x, strict=True)]

    def encode_response(self, output: list[str], **kwargs: Any) -> dict[str, Any]:
        """Return the answer's JSON."""
        return told(output)


def main() -> int:
    """Serve until SIGTERM."""
    args = peer_arguments("bench.peer_servers.lit")
    server = litserve.LitServer(
        PeerApi(args.models, args.redis), accelerator="cpu", workers_per_device=1
    )
    server.run(
        host="127.0.0.1",
        port=args.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

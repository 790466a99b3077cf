"""The peer most teams write first: a FastAPI handler that calls torch for each request.

    python -m bench.peer_servers.plain_fastapi --models ROOT --redis URL --port N

As FastAPI's documentation advises for code that blocks, the handler is a plain `def`, which runs
in the thread pool; body and answer are pydantic models; uvicorn[standard], access log off.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bench.peer_servers.network import FullNetwork, UserHistories, told


class PeerRequest(BaseModel):
    """Who asks, and for how many items."""

    user_id: str
    k: int = 10


class PeerItem(BaseModel):
    """One recommended item."""

    item_id: str
    rank: int


class PeerAnswer(BaseModel):
    """The recommended items, best first."""

    items: list[PeerItem]


def create_peer_app(network: FullNetwork, users: UserHistories) -> FastAPI:
    """Return the app."""
    app = FastAPI()

    @app.post("/recommend")
    def recommend(body: PeerRequest) -> PeerAnswer:
        (items,) = network.recommend([users.recent(body.user_id)], body.k)
        return PeerAnswer.model_validate(told(items))

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok"}

    return app


def peer_arguments(name: str) -> argparse.Namespace:
    """Return the arguments that every peer's process takes."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args()


def main() -> int:
    """Serve until SIGTERM."""
    args = peer_arguments("bench.peer_servers.plain_fastapi")
    app = create_peer_app(FullNetwork(args.models), UserHistories(args.redis))
    uvicorn.run(app, port=args.port, log_level="warning", access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

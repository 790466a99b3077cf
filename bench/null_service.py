"""The null handler: the service's stack, its Redis read, and a constant answer.

    python -m bench.null_service --redis URL --port N --answer FILE

FastAPI on uvicorn with the service's event loop, HTTP parser and store client. `POST /recommend`
parses its body, reads the user's history and sends the bytes of FILE. No model, no validation of
the answer, no log, no metrics: what is left is what any handler on this stack pays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from service.settings import Settings
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore


class NullRequest(BaseModel):
    """What the null handler reads."""

    user_id: str
    k: int = 10


def create_null_app(redis_url: str, answer: bytes) -> FastAPI:
    """Return the app; `answer` is sent for every user after one read of the history."""
    limit = int(Settings.model_fields["history_max"].default)
    store = RedisHistoryStore(
        RedisConfig(url=redis_url, op_timeout_seconds=10, history_max=limit, max_connections=64)
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await store.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/recommend")
    async def recommend(body: NullRequest) -> Response:
        await store.recent(body.user_id, limit)
        return Response(answer, media_type="application/json")

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    return app


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.null_service")
    parser.add_argument("--redis", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", type=Path, required=True)
    args = parser.parse_args()
    app = create_null_app(args.redis, args.answer.read_bytes())
    uvicorn.run(app, port=args.port, log_config=None, access_log=False, server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

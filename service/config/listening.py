"""Where the service listens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.config.values import Port, Section


class Listening(Section):
    """Where the service listens."""

    host: Annotated[str, Field(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, Field(description="Port to listen on; 0 picks a free one.")] = 8000
    admin_port: Annotated[
        Port | None,
        Field(
            description="Port of admin routes and metrics, which `CANET_PORT` then does not "
            "answer; empty: one port for all."
        ),
    ] = None

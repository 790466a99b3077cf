"""The application: FastAPI, whose own outermost layers are left out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from service.http.middleware import Exchanges


class Application(FastAPI):
    """FastAPI that begins with the first middleware added, which is or leads to `Exchanges`.

    What stands before it by default answers exceptions, observes them and bounds bodies for every
    request: `Exchanges` and `BodyLimit` do that here. ValueError where no Exchanges was added.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers from the outermost one of ours to the router."""
        added: list[Any] = [one.cls for one in self.user_middleware]
        if Exchanges not in added:
            raise ValueError("the application has no Exchanges, so nothing would answer failures")
        layer: Any = super().build_middleware_stack()
        while not isinstance(layer, added[0]):
            layer = layer.app
        found: ASGIApp = layer
        return found

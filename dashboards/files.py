"""The dashboards as the files that Grafana provisions."""

from __future__ import annotations

import json

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import compute_saved, model, redis, service


def rendered() -> dict[str, str]:
    """Return the JSON text of every dashboard by file name."""
    boards = {
        "compute-saved.json": compute_saved.build(),
        "service.json": service.build(),
        "model.json": model.build(),
        "redis.json": redis.build(),
    }
    return {
        name: json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, board in boards.items()
    }

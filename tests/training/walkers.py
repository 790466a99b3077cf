"""Made-up users to train on in seconds, and what a run told about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.progress import Silent


def write_data(path: Path) -> Path:
    """200 users who mostly walk upwards through 60 items and never repeat one."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(200):
        start, count = int(rng.integers(60)), int(rng.integers(10, 26))
        moment = 1_700_000_000 + int(rng.integers(10_000_000))
        for place in range(count):
            item = (start + 2 * place + (user + place) % 2) % 60
            lines.append(f"u{user},i{item},{moment + 3600 * place}")
    path.write_text("\n".join(lines) + "\n")
    return path


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)

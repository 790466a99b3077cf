"""What a caller of the soak does next: one request of a mix, and what it may be answered."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.synthetic_checkpoint import item_id

_K = 10
_MOST_SESSION = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request. `expected` are the statuses that are in order; `leaves`: nobody waits for it."""

    name: str
    method: str
    path: str
    body: Any = None
    text: str | None = None
    expected: tuple[int, ...] = (200,)
    leaves: bool = False

    @property
    def content(self) -> str:
        """The request's body, empty without one."""
        if self.text is not None:
            return self.text
        return "" if self.body is None else json.dumps(self.body)


class Mix:
    """Requests of one caller over users of its own, by chance, the same for the same seed.

    Mostly recommendations by user and by session, events in between; users are deleted, merged and
    replaced, and some requests are wrong or given up.
    """

    def __init__(self, *, users: list[str], items: int, seed: int) -> None:
        self._users = users
        self._items = items
        self._rng = random.Random(seed)
        self._seed = seed
        self._session: list[str] = []
        self._events = 0
        self._makers: list[Callable[[], Ask]] = [maker for maker, _ in self._weighted()]
        self._weights = [weight for _, weight in self._weighted()]

    def next(self) -> Ask:
        """Return the next request."""
        return self._rng.choices(self._makers, self._weights)[0]()

    def _weighted(self) -> list[tuple[Callable[[], Ask], int]]:
        return [
            (self._recommend, 600),
            (self._in_session, 130),
            (self._tell, 130),
            (self._batch, 10),
            (self._history, 20),
            (self._similar, 20),
            (self._delete, 15),
            (self._merge, 8),
            (self._replace, 10),
            (self._model, 5),
            (self._metrics, 2),
            (self._wrong, 15),
            (self._unreadable, 5),
            (self._given_up, 10),
        ]

    def _user(self) -> str:
        return self._rng.choice(self._users)

    def _item(self) -> str:
        # Popular items are rows of small numbers; one in fifty is not in the catalog.
        row = min(self._items, int(self._rng.paretovariate(0.6)))
        return item_id(row) if self._rng.random() < 0.98 else f"gone-{self._rng.randrange(10**6)}"

    def _question(self) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self._rng.random() < 0.1:
            more["exclude_items"] = [self._item() for _ in range(3)]
            more["exclude_items"] = sorted(set(more["exclude_items"]))
        if self._rng.random() < 0.1:
            more["include"] = ["scores", "attributes", "explain"]
        if self._rng.random() < 0.1:
            more["compute"] = {"mode": "full"}
        return {"user_id": self._user(), "k": _K, **more}

    def _recommend(self) -> Ask:
        return Ask(name="recommend", method="POST", path="/recommend", body=self._question())

    def _in_session(self) -> Ask:
        if len(self._session) >= _MOST_SESSION or self._rng.random() < 0.1:
            self._session = []
        self._session.append(self._item())
        body = {"history": list(self._session), "k": _K}
        return Ask(name="session", method="POST", path="/recommend", body=body)

    def _tell(self) -> Ask:
        events = []
        for _ in range(self._rng.randint(1, 4)):
            # One in twenty was sent before.
            if self._rng.random() > 0.05:
                self._events += 1
            events.append(
                {
                    "user_id": self._user(),
                    "item_id": self._item(),
                    "event_id": f"{self._seed}-{self._events}",
                }
            )
        if self._rng.random() < 0.1:
            events.append({"user_id": self._user()})  # refused alone
        return Ask(name="events", method="POST", path="/v1/events", body={"events": events})

    def _batch(self) -> Ask:
        requests = [self._question() for _ in range(self._rng.randint(2, 6))]
        path = "/v1/recommend/batch"
        return Ask(name="batch", method="POST", path=path, body={"requests": requests})

    def _history(self) -> Ask:
        return Ask(name="history", method="GET", path=f"/v1/users/{self._user()}/history")

    def _similar(self) -> Ask:
        path = f"/v1/items/{self._item()}/similar?k=5"
        return Ask(name="similar", method="GET", path=path, expected=(200, 404))

    def _delete(self) -> Ask:
        path = f"/v1/users/{self._user()}/history"
        return Ask(name="delete", method="DELETE", path=path, expected=(204,))

    def _merge(self) -> Ask:
        target, source = self._rng.sample(self._users, 2)
        path = f"/v1/users/{target}/merge"
        return Ask(name="merge", method="POST", path=path, body={"source_user_id": source})

    def _replace(self) -> Ask:
        items = [{"item_id": self._item()} for _ in range(self._rng.randint(0, 40))]
        path = f"/v1/users/{self._user()}/history"
        return Ask(name="replace", method="PUT", path=path, body={"items": items})

    def _model(self) -> Ask:
        return Ask(name="model", method="GET", path="/v1/model")

    def _metrics(self) -> Ask:
        return Ask(name="metrics", method="GET", path="/metrics")

    def _wrong(self) -> Ask:
        wrong: list[tuple[str, str, Any, int]] = [
            ("POST", "/recommend", {**self._question(), "k": 0}, 422),
            ("POST", "/recommend", {**self._question(), "nonsense": 1}, 422),
            ("GET", f"/nowhere/{self._rng.randrange(10**6)}", None, 404),
            ("DELETE", "/recommend", None, 405),
        ]
        method, path, body, status = self._rng.choice(wrong)
        return Ask(name="wrong", method=method, path=path, body=body, expected=(status,))

    def _unreadable(self) -> Ask:
        return Ask(
            name="wrong", method="POST", path="/recommend", text='{"user_id": ', expected=(400,)
        )

    def _given_up(self) -> Ask:
        question = self._question()
        return Ask(name="given up", method="POST", path="/recommend", body=question, leaves=True)

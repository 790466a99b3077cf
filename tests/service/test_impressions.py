"""Events are booked on the recommendation they name: its variant, its submodel, its items."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from prometheus_client import CollectorRegistry

from service import impressions
from service.engine.contract import RankedItem, Ranking
from service.impressions import Impressions
from service.ingest import Impression, Ingester
from service.metrics.metrics import Metrics
from service.store.contract import Interaction, ShownTo
from service.store.memory_store import MemoryHistoryStore
from service.store.shown import decode, encode, holds, shown
from service.ulid import Ulids, made_at_ms
from tests.service.fake_store import FakeStore
from tests.service.fakes import SMALL, info, running

NEW_ID = Ulids()
NOBODYS = "01ARZ3NDEKTSV4RRFFQ69G5FAV"  # made in 2016


@dataclass(frozen=True, slots=True)
class Room:
    """Records, events and their metrics over a store."""

    store: Any
    impressions: Impressions
    ingester: Ingester
    registry: CollectorRegistry

    def count(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(f"canet_{name}_total", labels)
        assert found is not None, (name, labels)
        return found

    async def click(self, user: str, item: str, name: str | None) -> None:
        moment = time.time_ns() // 1_000_000
        event = Interaction(
            user_id=user,
            external_id=item,
            timestamp_ms=moment,
            type="click",
            event_id=NEW_ID(),
            recommendation_id=name,
        )
        await self.ingester.ingest([event], [])


def room(store: Any, *, ttl_seconds: float = 3600) -> Room:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.model_loaded(info(), loaded_at_unix=1.0)
    impressions = Impressions(store, observer=metrics, ttl_seconds=ttl_seconds)
    ingester = Ingester(store=store, impressions=impressions, metrics=metrics)
    return Room(store, impressions, ingester, registry)


def ranking(*items: str, submodel: str | None = SMALL.name) -> Ranking:
    return Ranking(
        items=tuple(RankedItem(external_id=item, score=1.0) for item in items),
        source="popular" if submodel is None else "model",
        model_version="v1",
        submodel=submodel,
    )


@pytest.fixture
async def here() -> AsyncIterator[Room]:
    made = room(MemoryHistoryStore())
    yield made
    await made.impressions.stop()


async def test_a_click_is_booked_on_the_variant_and_submodel_that_had_answered(here: Room) -> None:
    first, second = NEW_ID(), NEW_ID()
    here.impressions.note("ada", first, ranking("a", "b"), "candidate")
    here.impressions.note("ada", second, ranking("c", submodel=None), "stable")
    await here.click("ada", "b", first)
    await here.impressions.stop()
    await here.click("ada", "c", second)
    for variant in ("candidate", "stable"):
        assert here.count("attributed_events", type="click", variant=variant) == 1
    for submodel in (SMALL.name, "none"):
        assert here.count("submodel_attributed_events", submodel=submodel) == 1
    assert here.count("recommendation_records", result="kept") == 2


async def test_shown_items_count_as_far_as_they_were_recommended(here: Room) -> None:
    name = NEW_ID()
    here.impressions.note("ada", name, ranking("a", "b", "c"), "candidate")
    seen = Impression(user_id="ada", external_ids=("a", "c", "z"), recommendation_id=name)
    await here.ingester.ingest([], [seen])
    assert here.count("impressions", variant="candidate") == 2
    assert here.count("submodel_impressions", submodel=SMALL.name) == 2
    await here.ingester.ingest([], [Impression(user_id="ada", external_ids=("a",))])
    assert here.count("impressions", variant="stable") == 0
    assert here.count("unattributed_events", type="impression", reason="unnamed") == 1


async def test_what_names_no_recommendation_of_its_user_is_counted_apart(here: Room) -> None:
    name = NEW_ID()
    here.impressions.note("ada", name, ranking("a"), "stable")
    await here.impressions.stop()
    await here.click("ada", "z", name)
    await here.click("bob", "a", name)
    await here.click("ada", "a", NEW_ID())
    await here.click("ada", "a", NOBODYS)
    for reason, count in (("not_recommended", 1), ("unknown", 2), ("expired", 1)):
        assert here.count("unattributed_events", type="click", reason=reason) == count, reason
    assert here.count("attributed_events", type="click", variant="stable") == 0
    await here.click("ada", "a", None)
    labels = {"type": "click", "result": "accepted"}
    assert here.count("events", **labels) == 5
    assert here.count("unattributed_events", type="click", reason="unnamed") == 0


async def test_a_repeated_click_counts_once(here: Room) -> None:
    name = NEW_ID()
    here.impressions.note("ada", name, ranking("a"), "stable")
    event = Interaction(
        user_id="ada",
        external_id="a",
        timestamp_ms=1,
        type="click",
        event_id="e",
        recommendation_id=name,
    )
    await here.ingester.ingest([event, event], [])
    await here.ingester.ingest([event], [])
    assert here.count("attributed_events", type="click", variant="stable") == 1


async def test_a_store_that_is_away_costs_records_and_nothing_else() -> None:
    store = FakeStore()
    made = room(store)
    store.away = True
    made.impressions.note("ada", NEW_ID(), ranking("a"), "stable")
    await made.impressions.stop()
    assert made.count("recommendation_records", result="lost") == 1
    assert await made.impressions.recall([("ada", NEW_ID())]) == ["unavailable"]


async def test_what_another_replica_has_not_written_yet_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(impressions, "_YOUNG_MS", 60_000)  # however slow this machine
    store = MemoryHistoryStore()
    here, there = room(store), room(store)
    name = NEW_ID()
    asking = asyncio.create_task(here.click("ada", "a", name))
    await asyncio.sleep(0)
    there.impressions.note("ada", name, ranking("a"), "stable")
    await asking
    assert here.count("attributed_events", type="click", variant="stable") == 1
    await there.impressions.stop()


async def test_many_recommendations_share_an_exchange() -> None:
    class Store(MemoryHistoryStore):
        sizes: ClassVar[list[int]] = []

        async def remember(self, shown: Sequence[ShownTo]) -> None:
            self.sizes.append(len(shown))
            await super().remember(shown)

    made = room(Store())
    for _ in range(300):
        made.impressions.note("ada", NEW_ID(), ranking("a"), "stable")
    await made.impressions.stop()
    assert Store.sizes == [64, 64, 64, 64, 44]
    assert made.count("recommendation_records", result="kept") == 300


async def test_with_no_time_to_live_nothing_is_remembered() -> None:
    store = FakeStore()
    made = room(store, ttl_seconds=0)
    name = NEW_ID()
    made.impressions.note("ada", name, ranking("a"), "stable")
    await made.impressions.stop()
    assert store.shown == {}
    store.away = True  # it is not even asked
    assert await made.impressions.recall([("ada", name)]) == ["expired"]


async def test_a_foreign_variant_or_submodel_makes_no_series(here: Room) -> None:
    here.impressions.note("ada", name := NEW_ID(), ranking("a", submodel="d9-w9-e9"), "forged")
    await here.click("ada", "a", name)
    assert here.count("attributed_events", type="click", variant="other") == 1
    assert here.count("submodel_attributed_events", submodel="other") == 1


async def test_the_service_remembers_whom_it_asks_the_store_about_and_nobody_else() -> None:
    async with running() as stack:
        told = (await stack.client.post("/recommend", json={"user_id": "u", "k": 2})).json()
        own = {"user_id": "u", "history": ["i1"]}
        stateless = (await stack.client.post("/recommend", json=own)).json()
        await stack.app.state.services.impressions.stop()
        assert list(stack.store.shown) == [("u", told["recommendation_id"])]
        record = stack.store.shown["u", told["recommendation_id"]]
        assert all(holds(record, item["item_id"]) for item in told["items"])
        assert stateless["recommendation_id"] != told["recommendation_id"]


@pytest.mark.parametrize("items", [[], ["a"], ["ä|\n", "x" * 256, "|"]])
@pytest.mark.parametrize("submodel", [None, "d1-w16-e16"])
def test_a_record_reads_back_as_it_was_written(items: list[str], submodel: str | None) -> None:
    one = shown("stable", submodel, items)
    assert decode(encode(one)) == one
    assert all(holds(one, item) for item in items)
    assert not holds(one, "something else")
    assert len(encode(one)) == len(f"stable|{submodel or ''}|") + 4 * len(items)


@pytest.mark.parametrize("record", [b"", b"x", b"a|b|123", b"\xff|b|1234"])
def test_foreign_records_read_as_none(record: bytes) -> None:
    assert decode(record) is None


def test_an_id_tells_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = made_at_ms(NEW_ID())
    assert made is not None
    assert before <= made <= time.time_ns() // 1_000_000
    assert made_at_ms(NOBODYS) == 1_469_922_850_259
    assert made_at_ms("not one of ours") is None

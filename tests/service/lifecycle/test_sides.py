"""A candidate and a shadow: who gets them, and that a bad one hurts nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.lifecycle.contract import ReloadBusyError, ReloadRefusedError, Side
from service.lifecycle.share import in_share
from service.lifecycle.sides import SideConfig, SideModels
from tests.service.lifecycle.tools import spoil, until

if TYPE_CHECKING:
    from tests.service.lifecycle.conftest import Loads, Observed

    Publish = Callable[..., str]
    Make = Callable[..., SideModels]

USERS = [f"user-{number}" for number in range(4000)]


@pytest.fixture
async def make(tmp_path: Path, loads: Loads, observed: Observed) -> AsyncIterator[Make]:
    made: list[SideModels] = []

    def make(
        *, candidate: SideConfig | None = None, shadow: SideConfig | None = None, retry: float = 30
    ) -> SideModels:
        config: dict[Side, SideConfig] = {
            "candidate": candidate or SideConfig(),
            "shadow": shadow or SideConfig(),
        }
        made.append(
            SideModels(
                tmp_path,
                loads,
                observer=observed,
                config=config,
                salt="salt",
                max_batch=2,
                poll_seconds=0.01,
                retry_seconds=retry,
            )
        )
        return made[-1]

    yield make
    for sides in made:
        await sides.stop()


@pytest.mark.parametrize("percent", [0.5, 1.0, 10.0, 33.3, 50.0, 90.0, 99.0])
def test_of_10000_users_everybody_stays_where_they_are_and_the_share_is_as_asked(
    percent: float,
) -> None:
    users = [f"customer-{number:05d}@example.org" for number in range(10_000)]

    def share(of: float) -> list[bool]:
        return [in_share(user, percent=of, salt="candidate\0canet") for user in users]

    drawn = share(percent)
    assert share(percent) == drawn, "asked again, by any replica"
    assert all(now or not before for before, now in zip(drawn, share(percent * 1.01), strict=True))
    # Of all who might have been drawn, one in a million shares lies further off.
    deviation = (10_000 * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(sum(drawn) - 100 * percent) < 4.9 * deviation


def test_a_share_is_sticky_grows_and_is_about_as_large_as_asked() -> None:
    def share(percent: float, salt: str = "a") -> set[str]:
        return {user for user in USERS if in_share(user, percent=percent, salt=salt)}

    assert share(0) == set()
    assert share(100) == set(USERS)
    assert share(5) <= share(20) <= share(60)
    assert share(20) == share(20)
    # Four standard deviations of the binomial.
    assert abs(len(share(20)) - 800) < 4 * (4000 * 0.2 * 0.8) ** 0.5
    both = len(share(20) & share(20, "b"))
    assert abs(both - 160) < 4 * 160**0.5, "another salt draws independently"


def test_a_caller_without_an_id_is_in_only_where_everybody_is() -> None:
    assert not in_share(None, percent=99.9, salt="a")
    assert in_share(None, percent=100, salt="a")


async def test_configured_sides_are_loaded_and_take_their_users(
    tmp_path: Path, publish: Publish, make: Make, observed: Observed
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    sides = make(
        candidate=SideConfig(version=first, percent=50),
        shadow=SideConfig(version=second, percent=50),
    )
    assert sides.takes("candidate", "anybody") is None
    await sides.start()
    assert observed.serving == {"candidate": first, "shadow": second}
    takes = {
        side: {user for user in USERS if sides.takes(side, user)}
        for side in ("candidate", "shadow")
    }
    assert all(1700 < len(users) < 2300 for users in takes.values())
    assert takes["candidate"] != takes["shadow"]
    sides.set_percent("candidate", 0)
    assert not any(sides.takes("candidate", user) for user in USERS)
    sides.unload("shadow")
    assert observed.serving == {"candidate": first}
    assert sides.status("shadow").wanted is None


async def test_a_refused_side_is_empty_says_why_and_comes_when_it_is_mended(
    tmp_path: Path, publish: Publish, make: Make, observed: Observed
) -> None:
    version = publish(tmp_path)
    sound = (tmp_path / version / "model.safetensors").read_bytes()
    spoil(tmp_path, version)
    sides = make(candidate=SideConfig(version=version, percent=100))
    await sides.start()
    assert sides.takes("candidate", "anybody") is None
    problem = sides.status("candidate").problem
    assert problem is not None
    assert "model.safetensors" in problem
    assert str(tmp_path) not in problem
    await asyncio.sleep(0.1)  # several polls
    assert observed.results == ["refused"], "not tried again as it stands"
    (tmp_path / version / "model.safetensors").write_bytes(sound)
    await until(lambda: sides.takes("candidate", "anybody"))
    assert sides.status("candidate").problem is None


@pytest.mark.parametrize("version", ["../../etc", "", "20261121T041200Z-1a2b3c4d", "x" * 9999])
async def test_a_refused_load_leaves_the_side_as_it_was(
    tmp_path: Path, publish: Publish, make: Make, version: str
) -> None:
    first = publish(tmp_path)
    sides = make()
    await sides.start()
    await sides.load("candidate", first)
    before = sides.engine("candidate")
    with pytest.raises(ReloadRefusedError) as caught:
        await sides.load("candidate", version)
    assert len(caught.value.reason) < 500
    assert sides.engine("candidate") is before


async def test_one_side_loads_at_a_time_and_stop_ends_it(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads
) -> None:
    first = publish(tmp_path)
    sides = make()
    await sides.start()
    loads.gate.clear()
    load = asyncio.create_task(sides.load("shadow", first))
    await until(lambda: loads.paths)
    with pytest.raises(ReloadBusyError):
        await sides.load("candidate", first)
    await sides.stop()
    with pytest.raises((ReloadRefusedError, ReloadBusyError)):
        await load
    loads.gate.set()
    with pytest.raises(ReloadBusyError):
        await sides.load("candidate", first)

"""Mutated checkpoints: every one is refused with its reason, and the old model serves on.

150 seeded mutations by default; CANET_CHAOS_CHECKPOINTS=1000 runs the long version.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from models.checkpoint.errors import Reason
from models.checkpoint.files import sha256_hex
from models.checkpoint.manifest import name_digest
from models.checkpoint.store import set_current
from service.engine.contract import Query
from service.engine.torch_engine import load_engine
from service.lifecycle.contract import ReloadRefusedError
from service.lifecycle.loader import ENGINE_REASONS
from service.lifecycle.manager import CheckpointManager
from tests.chaos.mutations import MUTATIONS, Forger
from tests.models.published import publish_random
from tests.service.lifecycle.conftest import Observed
from tests.service.lifecycle.tools import serving

pytestmark = pytest.mark.long

COUNT = int(os.environ.get("CANET_CHAOS_CHECKPOINTS", "150"))
SEED = int(os.environ.get("CANET_CHAOS_SEED", "20261121"))
QUERY = Query(history=("item-3", "item-9", "item-1"))


def sign(path: Path) -> Path:
    """Make manifest and name fit the files again, as a forger would."""
    values = json.loads((path / "manifest.json").read_bytes())
    for name in values["files"]:
        if (path / name).is_file():
            data = (path / name).read_bytes()
            values["files"][name] = {"sha256": sha256_hex(data), "size": len(data)}
    data = json.dumps(values).encode()
    draft = path.name
    version = f"{draft[:17]}{name_digest(data, draft)}"
    (path / "manifest.json").write_bytes(data.replace(draft.encode(), version.encode(), 1))
    return path.rename(path.with_name(version))


async def test_no_mutated_checkpoint_is_accepted_and_the_old_model_serves_on(
    tmp_path: Path,
) -> None:
    generator = random.Random(SEED)
    root, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    first = publish_random(root, seed=0)
    sound = elsewhere / publish_random(elsewhere, seed=1)
    other = elsewhere / publish_random(elsewhere, seed=2)
    observed = Observed()
    manager = CheckpointManager(
        root,
        lambda path: load_engine(path, price=None, allowed=None),
        observer=observed,
        poll_seconds=3600,
        max_batch=2,
    )
    await manager.start()
    engine = manager.current()
    assert engine is not None
    expected = engine.recommend([QUERY])[0][0].items
    reasons: Counter[tuple[str, str]] = Counter()
    names = sorted(MUTATIONS)
    known = {reason.value for reason in Reason} | set(ENGINE_REASONS)
    try:
        for number in range(COUNT):
            name = names[number % len(names)]
            path = Path(shutil.copytree(sound, root / sound.name))
            forger = Forger(path=path, other=other, generator=generator, outside=tmp_path)
            signed = MUTATIONS[name](forger)
            path = sign(path) if signed else path
            with pytest.raises(ReloadRefusedError) as caught:
                await manager.reload(path.name)
            assert str(tmp_path) not in caught.value.reason, name
            assert 0 < len(caught.value.reason) < 1000, name
            assert manager.current() is engine, name
            assert caught.value.code in known, name
            reasons[name, caught.value.code] += 1
            assert engine.recommend([QUERY])[0][0].items == expected
            _remove(path)
        assert not (tmp_path / "pickle-ran").exists()
        assert set(observed.results) == {"loaded", "refused"}
        assert observed.results.count("refused") == COUNT
        # What was not touched is accepted: the refusals above were about the mutations.
        shutil.copytree(sound, root / sound.name)
        set_current(root, sound.name)
        assert (await manager.reload(None)).version == sound.name
    finally:
        await manager.stop()
    lines = [f"{name} {reason} {count}" for (name, reason), count in sorted(reasons.items())]
    sys.stdout.write("\n".join((f"\n{COUNT} refused, seed {SEED}", *lines, "")))
    assert serving(manager) == sound.name
    assert first != sound.name


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path)

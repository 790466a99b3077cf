"""Which checkpoint serves, which of its submodels, at which price."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from models.config import Submodel
from service.config.values import Section, Words


def _served_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        Submodel.parse(name)
    return names


class Model(Section):
    """Which checkpoint serves, which of its submodels, at which price."""

    model_root: Annotated[Path, Field(description="Directory of checkpoints.")] = Path(
        "checkpoints"
    )
    model_version: Annotated[
        str | None,
        Field(min_length=1, description="Serve this version and do not follow `CURRENT`."),
    ] = None
    reload_poll_seconds: Annotated[
        float,
        Field(gt=0, le=3600, description="How often `CURRENT` and the blocklist are looked at."),
    ] = 2.0
    submodels: Annotated[
        Words,
        AfterValidator(_served_names),
        Field(description="Serve only these submodels, comma separated; empty: all published."),
    ] = ()
    price: Annotated[
        float | None,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="What the router pays for compute; empty: as published.",
        ),
    ] = None
    candidate_version: Annotated[
        str | None,
        Field(min_length=1, description="Answers `CANET_CANDIDATE_PERCENT` of the users."),
    ] = None
    candidate_percent: Annotated[
        float, Field(ge=0, le=100, description="Share of the users that the candidate answers.")
    ] = 0.0
    shadow_version: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Repeats answers of `CANET_SHADOW_PERCENT` of the users, to compare.",
        ),
    ] = None
    shadow_percent: Annotated[
        float, Field(ge=0, le=100, description="Share of the users whose answers are repeated.")
    ] = 0.0
    traffic_salt: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            description="Draws the users of both shares; the same on every replica.",
        ),
    ] = "canet"

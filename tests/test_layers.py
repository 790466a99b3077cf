"""Imports point one way. This test draws the map and fails on an arrow against it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "training", "service", "cli", "bench", "dashboards")

# package -> the packages of this project it may import
ALLOWED = {
    "models": {"models"},
    "training": {"training", "models"},
    "service": {"service", "models"},
    "cli": {"cli", "service", "training", "models"},
    "dashboards": {"dashboards"},
    "bench": {"bench", "service", "training", "models"},
}

# Inside service, only downward: a room may import itself and the rooms below it.
SERVICE_FLOORS = ("contract", "base", "room", "use_case", "http", "app")

# The only files of the service that may import torch.
TORCH_IN_SERVICE = {"service/engine/torch_engine.py", "service/engine/scoring.py"}


def floor(module: str) -> int:
    """The floor of a service module: contracts at the bottom, the app on top."""
    name = module.removeprefix("service.")
    if name.endswith(".contract"):
        return SERVICE_FLOORS.index("contract")
    if name in {"settings", "logs", "ulid", "clock", "deadlines"} or name.startswith(
        ("config", "metrics", "tracing")
    ):
        return SERVICE_FLOORS.index("base")
    if name.startswith(("blocklist", "cache", "engine", "store", "overload")):
        return SERVICE_FLOORS.index("room")
    if name in {"recommend", "ingest", "impressions"} or name.startswith("lifecycle"):
        return SERVICE_FLOORS.index("use_case")
    if name in {"app", "serve"}:
        return SERVICE_FLOORS.index("app")
    return SERVICE_FLOORS.index("http")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the map"
            assert node.module is not None
            found.add(node.module)
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        top = name.split(".")[0]
        if top in PACKAGES:
            assert top in ALLOWED[package], f"{path} imports {name}"


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if path.parts[len(ROOT.parts)] == "service"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_service_imports_only_downward(path: Path) -> None:
    here = module_name(path)
    for name in imports(path):
        if name.startswith("service."):
            assert floor(name) <= floor(here), f"{here} imports {name}, which stands above it"


def test_torch_enters_the_service_through_one_door() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources()
        if path.parts[len(ROOT.parts)] == "service"
        and any(name.split(".")[0] == "torch" for name in imports(path))
    }
    assert users <= TORCH_IN_SERVICE


def test_models_know_neither_http_nor_redis_nor_data_files() -> None:
    banned = {"fastapi", "starlette", "uvicorn", "redis", "httpx", "pyarrow", "prometheus_client"}
    for path in (ROOT / "models").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & banned, path


def test_init_files_stay_empty() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            assert path.read_text(encoding="utf-8") == "", f"{path} is not empty"

"""The deployment's files, parsed; shared by the tests that read them and those that run them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docker/prometheus/rules"
DASHBOARDS = ROOT / "docker/grafana/dashboards"

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_METRIC = re.compile(r"\bcanet_[a-z0-9_]+")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def compose() -> dict[str, Any]:
    """docker-compose.yml with its anchors merged and its variables as written."""
    parsed: dict[str, Any] = read_yaml(ROOT / "docker-compose.yml")
    return parsed


def variables(text: str) -> dict[str, str]:
    """Every `${NAME:-default}` of a compose file with its default."""
    return {match[1]: match[2] or "" for match in _VARIABLE.finditer(text)}


def substitute(value: Any, environ: Mapping[str, str]) -> str:
    """What compose makes of a value; `:-` takes the default when the variable is empty."""
    return _VARIABLE.sub(lambda match: environ.get(match[1]) or match[2] or "", str(value)).replace(
        "$$", "$"
    )


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "=" in line]
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One PromQL expression of a panel, a recording rule or an alert."""

    where: str
    text: str

    @property
    def metrics(self) -> set[str]:
        """The service's own series that it reads."""
        return set(_METRIC.findall(self.text))


def rules() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(RULES.glob("*.yml")):
        for group in read_yaml(path)["groups"]:
            for rule in group["rules"]:
                yield path, rule


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels that show data, those inside rows included."""
    flat = [
        *dashboard["panels"],
        *(p for row in dashboard["panels"] for p in row.get("panels", ())),
    ]
    return [panel for panel in flat if panel["type"] != "row"]


def own_variables(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """The dashboard's variables with the values it opens with."""
    return {
        variable["name"]: variable["current"]["value"]
        for variable in dashboard["templating"].get("list", ())
    }


def _replaced(expression: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        expression = expression.replace(f"${name}", value)
    return expression


def panel_expressions(rate_interval: str, time_range: str) -> list[Expression]:
    """Every panel's expressions with Grafana's and the dashboard's own variables replaced."""
    grafana = {"__rate_interval": rate_interval, "__range": time_range}
    return [
        Expression(
            where=f"{name}: {panel['title']} {target['refId']}",
            text=_replaced(target["expr"], {**grafana, **own_variables(dashboard)}),
        )
        for name, dashboard in dashboards().items()
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def rule_expressions() -> list[Expression]:
    return [
        Expression(where=f"{path.name}: {rule.get('record') or rule['alert']}", text=rule["expr"])
        for path, rule in rules()
    ]

"""Panels in the house's style: each has a unit, a description and words for when it is empty."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

# The data source that docker/grafana/provisioning defines.
SOURCE = models.DataSourceRef(type_val="prometheus", uid="canet-prometheus")
NO_TRAFFIC = "no traffic"

GREEN, YELLOW, RED = "green", "yellow", "red"
Steps = Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the name of what it returns."""

    expr: str
    legend: str
    as_table: bool = False
    """The newest value of every series as a row of labels."""
    as_heat: bool = False
    """Cumulative buckets, told apart by `le`."""
    exemplars: bool = False
    """Show the traces that stand behind the buckets as points."""


class _Common(Protocol):
    """What the builders of all panel types share; the library has no such base."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: models.DataSourceRef) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def no_value(self, no_value: str) -> Self: ...
    def height(self, h: int) -> Self: ...
    def span(self, w: int) -> Self: ...
    def targets(self, targets: list[Builder[Dataquery]]) -> Self: ...
    def id(self, id_val: int) -> Self: ...
    def build(self) -> models.Panel: ...


P = TypeVar("P", bound=_Common)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel to be; `make(number)` builds it under that id."""

    make: Callable[[int], Builder[models.Panel]]


@dataclass(frozen=True, slots=True)
class Row:
    """A headline over panels."""

    title: str
    panels: tuple[Panel, ...]


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    empty: str = NO_TRAFFIC,
    width: int = 6,
    steps: Steps = ((0, GREEN),),
    decimals: int | None = None,
) -> Panel:
    """Return a panel of large numbers; colours change at `steps` (from this value on)."""

    def make(place: int) -> Builder[models.Panel]:
        panel = (
            stat.Panel()
            .thresholds(_thresholds(steps))
            .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
            .color_mode(common.BigValueColorMode.VALUE)
            .graph_mode(common.BigValueGraphMode.AREA)
            .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        )
        if decimals is not None:
            panel = panel.decimals(decimals)
        return _named(panel, place, title, description, unit, empty, width, 5, queries)

    return Panel(make)


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    empty: str = NO_TRAFFIC,
    width: int = 8,
    stacked: bool = False,
    top: float | None = None,
    bottom: float | None = 0,
) -> Panel:
    """Return lines over time; `stacked` for shares of a whole."""

    def make(place: int) -> Builder[models.Panel]:
        panel = (
            timeseries.Panel()
            .line_width(1)
            .fill_opacity(40 if stacked else 8)
            .show_points(common.VisibilityMode.NEVER)
            .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
            .tooltip(
                common_builders.VizTooltipOptions()
                .mode(common.TooltipDisplayMode.MULTI)
                .sort(common.SortOrder.DESCENDING)
            )
            .legend(
                common_builders.VizLegendOptions()
                .show_legend(True)
                .display_mode(common.LegendDisplayMode.LIST)
                .placement(common.LegendPlacement.BOTTOM)
            )
        )
        if stacked:
            panel = panel.stacking(
                common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
            )
        if bottom is not None:
            panel = panel.min(bottom)
        if top is not None:
            panel = panel.max(top)
        return _named(panel, place, title, description, unit, empty, width, 8, queries)

    return Panel(make)


def heat(title: str, description: str, unit: str, expr: str, *, width: int = 12) -> Panel:
    """Return a heat map of a histogram's buckets; `expr` keeps the label `le`."""

    def make(place: int) -> Builder[models.Panel]:
        panel = (
            heatmap.Panel()
            .calculate(False)
            .show_y_histogram()
            .hide_legend()
            .y_axis(heatmap.YAxisConfig().unit(unit))
        )
        queries = (Query(expr, "{{le}}", as_heat=True),)
        return _named(panel, place, title, description, unit, NO_TRAFFIC, width, 8, queries)

    return Panel(make)


def rows(
    title: str,
    description: str,
    query: Query,
    *,
    hidden: Sequence[str],
    empty: str,
    width: int = 12,
) -> Panel:
    """Return a table of the labels of every series that `query` returns, without `hidden` ones."""

    def make(place: int) -> Builder[models.Panel]:
        organize = models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(("Time", "Value", *hidden), True),
                "indexByName": {},
                "renameByName": {},
            },
        )
        panel = table.Panel().show_header(True).with_transformation(organize)
        return _named(panel, place, title, description, "short", empty, width, 6, (query,))

    return Panel(make)


def dashboard(
    uid: str,
    title: str,
    description: str,
    top: Sequence[Panel],
    below: Sequence[Row],
    variables: Sequence[Builder[models.VariableModel]] = (),
) -> models.Dashboard:
    """Return the dashboard: `top` panels first, then rows. Its panels are numbered from 1."""
    board = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["canet"])
        .readonly()
        .version(1)
        .refresh("5s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables(list(variables))
        .link(
            builders.DashboardLink("CANet")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["canet"])
            .keep_time(True)
            .icon("external link")
        )
    )
    place = 0
    for panel in top:
        place += 1
        board = board.with_panel(panel.make(place))
    for row in below:
        place += 1
        board = board.with_row(builders.Row(row.title).id(place))
        for panel in row.panels:
            place += 1
            board = board.with_panel(panel.make(place))
    return board.build()


def _named(
    panel: P,
    place: int,
    title: str,
    description: str,
    unit: str,
    empty: str,
    width: int,
    height: int,
    queries: Sequence[Query],
) -> P:
    targets: list[Builder[Dataquery]] = [
        _target(query, letter)
        for query, letter in zip(queries, string.ascii_uppercase, strict=False)
    ]
    return (
        panel.id(place)
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .no_value(empty)
        .height(height)
        .span(width)
        .targets(targets)
    )


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .datasource(SOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
        .editor_mode(QueryEditorMode.CODE)
        .ref_id(letter)
    )
    if query.exemplars:
        target = target.exemplar(True)
    if query.as_table:
        return target.instant().format(PromQueryFormat.TABLE)
    if query.as_heat:
        return target.range().format(PromQueryFormat.HEATMAP)
    return target.range()


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    (_, first), *others = steps
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps(
            [
                models.Threshold(value=None, color=first),
                *(models.Threshold(value=value, color=color) for value, color in others),
            ]
        )
    )

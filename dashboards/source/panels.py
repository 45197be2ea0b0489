"""Builders for the panels of the dashboards: few kinds, with a consistent style.

Each helper takes the parameters that differ between panels, and sets all common options. Colors have the same meaning everywhere:
green is success, orange is rejected or retried, red is a defect or an infrastructure error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, statetimeline
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from queries import expand

DATASOURCE = d.DataSourceRef(type_val="prometheus", uid="${datasource}")

UNITS = frozenset(value for value in vars(units).values() if isinstance(value, str))
"""All units that Grafana supports."""

GOOD, WARN, BAD, NEUTRAL = "green", "orange", "red", "blue"

# The outcomes of operations and of attempts.
OUTCOMES = {
    "succeeded": GOOD,
    "committed": GOOD,
    "rejected": NEUTRAL,
    "cancelled": "purple",
    "aborted": WARN,
    "unknown": BAD,
    "failed": BAD,
    "panicked": "dark-red",
}

# The same for legends with a reason after the outcome: each reason has a separate shade.
ENDINGS = {"/^(failed|panicked):/": BAD, "/^rejected:/": NEUTRAL, "/^cancelled:/": "purple"}

Builder = Any
"""Any of the SDK's panel builders: they have no common type, but all have the methods that are used here."""


@dataclass
class Query:
    """A query, and the legend of its series."""

    expr: str
    legend: str = ""
    # A threshold line: dashed and red, without a fill.
    limit: bool = False
    # Only the newest value, for a table or a single number.
    instant: bool = False
    kind: PromQueryFormat = PromQueryFormat.TIME_SERIES


@dataclass
class Panel:
    """A panel with its size, before its position is set."""

    builder: Builder
    width: int
    height: int
    queries: Sequence[Query] = field(default_factory=list)


def limit(expr: str, legend: str) -> Query:
    """A threshold line for an objective or a setting."""
    return Query(expr, legend, limit=True)


def steps(*pairs: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Thresholds: the color from each value on. The first threshold has no value."""
    found = [d.Threshold(value=value, color=color) for value, color in pairs]
    return dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(found)


def words(**names: tuple[str, str]) -> d.ValueMap:
    """A mapping of values to a text and a color: `v1=("up", GOOD)`."""
    options = {
        key.removeprefix("v"): d.ValueMappingResult(text=text, color=color, index=index)
        for index, (key, (text, color)) in enumerate(names.items())
    }
    return d.ValueMap(options=options)


def _prepare(builder: Builder, title: str, about: str, unit: str, queries: Sequence[Query], size: tuple[int, int]) -> Panel:
    if unit not in UNITS:
        raise SystemExit(f"{title}: Grafana has no unit {unit}")
    builder = builder.title(title).description(" ".join(about.split())).datasource(DATASOURCE).unit(unit)
    for index, query in enumerate(queries):
        ref = chr(ord("A") + index)
        target = prometheus.Dataquery().datasource(DATASOURCE).ref_id(ref).expr(expand(query.expr))
        target = target.format(query.kind).legend_format(query.legend or "__auto")
        builder = builder.with_target(target.instant() if query.instant else target.range())
        if query.limit:
            builder = builder.override_by_query(
                ref,
                [
                    d.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": BAD}),
                    d.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
                    d.DynamicConfigValue("custom.fillOpacity", 0),
                    d.DynamicConfigValue("custom.stacking", {"mode": "none"}),
                ],
            )
    return Panel(builder, size[0], size[1], queries)


def timeseries(
    title: str,
    about: str,
    unit: str,
    queries: Sequence[Query],
    *,
    width: int = 8,
    height: int = 8,
    stack: bool = False,
    colors: dict[str, str] | None = None,
    shades: dict[str, str] | None = None,
    most: float | None = None,
    table: bool = False,
    log: bool = False,
) -> Panel:
    """Lines over time. `table` is for legends with many names; `colors` sets the color of a series by name, `shades` by a
    pattern of the name."""
    legend = common.VizLegendOptions().show_legend(True).placement(c.LegendPlacement.BOTTOM)
    if table:
        legend = legend.display_mode(c.LegendDisplayMode.TABLE).placement(c.LegendPlacement.RIGHT)
        legend = legend.calcs(["lastNotNull", "max"])
    else:
        legend = legend.display_mode(c.LegendDisplayMode.LIST).calcs([])
    builder = (
        series.Panel()
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        .draw_style(c.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(40 if stack else 8)
        .show_points(c.VisibilityMode.NEVER)
        .min(0)
    )
    if most is not None:
        builder = builder.max(most)
    if stack:
        builder = builder.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if log:
        scale = common.ScaleDistributionConfig().type(c.ScaleDistribution.LOG).log(10)
        builder = builder.scale_distribution(scale)
    for name, color in (colors or {}).items():
        fixed = d.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})
        builder = builder.override_by_name(name, [fixed])
    for pattern, color in (shades or {}).items():
        shade = d.DynamicConfigValue("color", {"mode": "shades", "fixedColor": color})
        builder = builder.override_by_regexp(pattern, [shade])
    return _prepare(builder, title, about, unit, queries, (width, height))


def number(
    title: str,
    about: str,
    unit: str,
    query: str,
    thresholds: dashboard.ThresholdsConfig,
    *,
    width: int = 4,
    height: int = 4,
    decimals: int | None = None,
    mappings: Sequence[d.ValueMap] = (),
    nothing: str = "none",
    spark: bool = False,
    legend: str = "",
    label: str = "",
) -> Panel:
    """One number, colored by thresholds. `nothing` is the text without a value. `label` shows the value of a label."""
    builder = (
        stat.Panel()
        .thresholds(thresholds)
        .color_mode(c.BigValueColorMode.VALUE)
        .graph_mode(c.BigValueGraphMode.AREA if spark else c.BigValueGraphMode.NONE)
        .text_mode(c.BigValueTextMode.NAME if label else c.BigValueTextMode.AUTO)
        .justify_mode(c.BigValueJustifyMode.AUTO)
        .orientation(c.VizOrientation.AUTO)
        .reduce_options(common.ReduceDataOptions().values(False).calcs(["lastNotNull"]))
        .no_value(nothing)
    )
    if decimals is not None:
        builder = builder.decimals(decimals)
    if mappings:
        builder = builder.mappings(list(mappings))
    found = Query(query, label or legend, instant=not spark)
    return _prepare(builder, title, about, unit, [found], (width, height))


def bars(title: str, about: str, unit: str, queries: Sequence[Query], *, width: int = 8, height: int = 8) -> Panel:
    """Numbers as bars, relative to the largest number."""
    builder = (
        bargauge.Panel()
        .display_mode(c.BarGaugeDisplayMode.BASIC)
        .value_mode(c.BarGaugeValueMode.TEXT)
        .orientation(c.VizOrientation.HORIZONTAL)
        .show_unfilled(True)
        .min(0)
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC))
        .reduce_options(common.ReduceDataOptions().values(False).calcs(["lastNotNull"]))
    )
    return _prepare(builder, title, about, unit, queries, (width, height))


def heat(title: str, about: str, query: str, *, width: int = 12, height: int = 8) -> Panel:
    """A heatmap of durations. The query returns the buckets of a histogram."""
    builder = (
        heatmap.Panel()
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(c.AxisPlacement.LEFT))
        .cell_gap(1)
        .mode(c.TooltipDisplayMode.SINGLE)
        .show_legend()
        # Empty buckets are not drawn.
        .filter_values(heatmap.FilterValueRange().le(1e-9))
    )
    found = Query(query, "{{le}}", kind=PromQueryFormat.HEATMAP)
    return _prepare(builder, title, about, "s", [found], (width, height))


def states(
    title: str,
    about: str,
    queries: Sequence[Query],
    mappings: Sequence[d.ValueMap],
    thresholds: dashboard.ThresholdsConfig | None = None,
    *,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """States over time: one band for each name."""
    builder = (
        statetimeline.Panel()
        .merge_values(True)
        .show_value(c.VisibilityMode.NEVER)
        .align_value(c.TimelineValueAlignment.LEFT)
        .row_height(0.85)
        .fill_opacity(80)
        .line_width(0)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.BOTTOM)
            .calcs([])
        )
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.SINGLE).sort(c.SortOrder.NONE))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .mappings(list(mappings))
    )
    if thresholds is not None:
        builder = builder.thresholds(thresholds)
    return _prepare(builder, title, about, "none", queries, (width, height))


@dataclass
class Column:
    """A column of a table: a query whose result has one row for each value of the table's labels."""

    title: str
    expr: str
    unit: str
    thresholds: Sequence[tuple[float | None, str]] = ()
    decimals: int | None = None
    mapping: d.ValueMap | None = None


def table(
    title: str,
    about: str,
    labels: dict[str, str],
    columns: Sequence[Column],
    *,
    link: tuple[str, str, str] | None = None,
    wide: str,
    sort: str,
    ascending: bool = False,
    width: int = 24,
    height: int = 9,
) -> Panel:
    """One row for each value of the labels, one column for each query. `labels` names the columns of the labels; `link` is
    the label with a link, its tooltip and its address; `wide` is the label with long values."""
    queries = [Query(column.expr, instant=True, kind=PromQueryFormat.TABLE) for column in columns]
    builder = (
        tables.Panel()
        .show_header(True)
        .cell_height(c.TableCellHeight.SM)
        .filterable(True)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(not ascending)])
    )
    names = dict(labels)
    for index, column in enumerate(columns):
        # With a single query, Grafana names the column Value.
        names["Value" if len(columns) == 1 else f"Value #{chr(ord('A') + index)}"] = column.title
    order = {name: index for index, name in enumerate(names)}
    builder = builder.with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
    builder = builder.with_transformation(
        d.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
        )
    )
    for column in columns:
        properties = [d.DynamicConfigValue("unit", column.unit)]
        if column.decimals is not None:
            properties.append(d.DynamicConfigValue("decimals", column.decimals))
        if column.thresholds:
            found = [{"value": value, "color": color} for value, color in column.thresholds]
            properties.append(d.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": found}))
            properties.append(d.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        if column.mapping is not None:
            properties.append(d.DynamicConfigValue("mappings", [column.mapping]))
            properties.append(d.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        builder = builder.override_by_name(column.title, properties)
    # Names are long and numbers are short.
    builder = builder.override_by_name(labels[wide], [d.DynamicConfigValue("custom.minWidth", 240)])
    if link is not None:
        label, tooltip, url = link
        leads = [{"title": tooltip, "url": url}]
        builder = builder.override_by_name(labels[label], [d.DynamicConfigValue("links", leads)])
    return _prepare(builder, title, about, "none", queries, (width, height))

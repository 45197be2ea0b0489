"""Common parts of the dashboards: variables, links, annotations, and the layout of panels in rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.table import Options as Table

from panels import DATASOURCE, Panel
from queries import Catalog, expand, variables

TAG = "txnscope"

# The width of Grafana's grid.
COLUMNS = 24


# ===== Variables =====


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").regex("")


def _values(name: str, label: str, about: str, source: str, *, every: str = ".+") -> dashboard.QueryVariable:
    """A multi-value variable with the values of a label; `every` is the regular expression of `All`."""
    query = {"query": f"label_values({expand(source)}, {name_of(name)})", "refId": f"Variable-{name}"}
    found = dashboard.QueryVariable(name).label(label).description(about).datasource(DATASOURCE).query(query)
    found = found.refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(d.VariableSort.ALPHABETICAL_ASC)
    all_of_them = d.VariableOption(selected=True, text="All", value="$__all")
    return found.multi(True).include_all(True).all_value(every).current(all_of_them)


def name_of(variable: str) -> str:
    """The label whose values a variable offers."""
    return "instance" if variable == "sidecar" else variable


def job() -> dashboard.QueryVariable:
    return _values("job", "Backend", "The jobs of backends with the txnscope library.", "transaction_attempts_total")


def instance() -> dashboard.QueryVariable:
    source = 'transaction_attempts_total{job=~"$job"}'
    return _values("instance", "Instance", "Instances of the backend.", source)


def operation() -> dashboard.QueryVariable:
    source = "transaction_attempts_total{BACKEND}"
    return _values("operation", "Operation", "Method and route, or the name of a job.", source)


def one_operation() -> dashboard.QueryVariable:
    """The single operation of the dashboard Operation."""
    return operation().multi(False).include_all(False).current(d.VariableOption(text="", value=""))


def deployment() -> dashboard.QueryVariable:
    # A label of the targets, which is optional with a single deployment. `member` excludes other exporters.
    about = "The label `deployment` of the sidecar's targets, which distinguishes replica sets of the same name."
    return _values("deployment", "Deployment", about, 'mongodb_up{member!=""}', every=".*")


def rs() -> dashboard.QueryVariable:
    # The name of a replica set is empty for a standalone server.
    source = 'mongodb_up{deployment=~"$deployment",member!=""}'
    return _values("rs", "Replica set", "Replica sets that a sidecar monitors.", source, every=".*")


def sidecar() -> dashboard.QueryVariable:
    about = "The sidecars whose metrics are used. A member that several sidecars monitor is counted once."
    return _values("sidecar", "Sidecar", about, 'mongodb_up{deployment=~"$deployment",rs=~"$rs",member!=""}')


def any_sidecar() -> dashboard.QueryVariable:
    """All sidecars, including a sidecar without a reachable member."""
    return _values("sidecar", "Sidecar", "Instances of the sidecar.", "txnscope_build_info")


def member() -> dashboard.QueryVariable:
    return _values("member", "Member", "Members of the replica set.", "mongodb_up{SET}")


def check() -> dashboard.QueryVariable:
    source = "mongodb_consistency_interval_seconds{SET}"
    return _values("check", "Check", "Checks of the checks file.", source)


# ===== Annotations =====


class Annotation:
    """An annotation from Prometheus: the type in the SDK lacks the fields for query, title and text."""

    def __init__(self, name: str, color: str, expr: str, title: str, text: str, tags: str = "") -> None:
        self.name, self.color, self.expr = name, color, expand(expr)
        self.title, self.text, self.tags = title, text, tags

    def build(self) -> Any:
        """Implements the interface of the SDK's builders."""
        return self

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": DATASOURCE,
            "enable": True,
            "expr": self.expr,
            "iconColor": self.color,
            "name": self.name,
            "step": "30s",
            "tagKeys": self.tags,
            "target": {"expr": self.expr, "refId": "Annotation", "interval": "30s"},
            "textFormat": self.text,
            "titleFormat": self.title,
        }


def deploys() -> Annotation:
    """Detects restarts by the start time of the process, if the backend exports it, or by a counter reset."""
    expr = """
        sum by (job, instance) (changes(process_start_time_seconds{BACKEND}[1m])) > 0
        or sum by (job, instance) (resets(transaction_attempts_total{BACKEND}[1m])) > 0
    """
    return Annotation("Deploys", "blue", expr, "Restart of {{job}}", "{{instance}}", "job,instance")


def elections() -> Annotation:
    expr = "max by (rs) (changes(mongodb_replication_term{SET}[1m])) > 0"
    return Annotation("Elections", "purple", expr, "Election in {{rs}}", "The term changed.", "rs")


def alerts() -> Annotation:
    expr = 'ALERTS{alertstate="firing",severity!="none"}'
    return Annotation("Alerts", "red", expr, "{{alertname}}", "{{operation}} {{rs}} {{check}}", "severity")


# ===== Links =====


def _link(title: str, uid: str) -> dashboard.DashboardLink:
    found = dashboard.DashboardLink(title).type(d.DashboardLinkType.LINK).url(f"/d/{uid}")
    return found.keep_time(True).include_vars(True).icon("dashboard").tooltip(f"txnscope: {title}")


# ===== Rows =====


@dataclass
class Row:
    """A row of panels, which wrap at the width of the grid. The title of a collapsed row names its requirements."""

    title: str
    panels: Sequence[Panel]
    closed: bool = False


@dataclass
class Page:
    """A dashboard."""

    uid: str
    title: str
    about: str
    variables: Sequence[Any]
    annotations: Sequence[Annotation]
    rows: Sequence[Row] = field(default_factory=list)


def _place(panels: Sequence[Panel], top: int) -> tuple[list[tuple[Panel, d.GridPos]], int]:
    """Places panels from left to right, with line breaks at the width of the grid; returns the next free line."""
    placed, x, y, tallest = [], 0, top, 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        placed.append((panel, d.GridPos(h=panel.height, w=panel.width, x=x, y=y)))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return placed, y + tallest


def render(page: Page, pages: Sequence[Page], catalog: Catalog) -> d.Dashboard:
    """The dashboard in the format of Grafana. Ids are sequential and the output is deterministic."""
    built = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(" ".join(page.about.split()))
        .tags([TAG, "mongodb"])
        .timezone("browser")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .timepicker(dashboard.TimePicker().refresh_intervals(["5s", "10s", "30s", "1m", "5m", "15m"]))
        .refresh("30s")
        .editable()
        .version(1)
        .variables([_datasource(), *page.variables])
        .annotations(list(page.annotations))
        .links([_link(other.title.removeprefix("txnscope / "), other.uid) for other in pages if other is not page])
    )
    known = {"datasource", *(variable.build().name for variable in page.variables)}
    number, top = 1, 0
    for row in page.rows:
        place = d.GridPos(h=1, w=COLUMNS, x=0, y=top)
        head = dashboard.Row(row.title).collapsed(row.closed).grid_pos(place).id(number)
        number, top = number + 1, top + 1
        placed, end = _place(row.panels, top)
        inside = []
        for panel, at in placed:
            for query in panel.queries:
                catalog.check(query.expr)
                if lacking := variables(expand(query.expr)) - known:
                    raise SystemExit(f"{page.uid}: no variable {lacking} for the query\n  {query.expr}")
            inside.append(panel.builder.id(number).grid_pos(at))
            number += 1
        if row.closed:
            for panel in inside:
                head = head.with_panel(panel)
            built = built.with_row(head)
        else:
            built = built.with_row(head)
            for panel in inside:
                built = built.with_panel(panel)
            top = end
    found = built.build()
    # Newer versions of Grafana migrate this schema; older versions do not support a newer schema.
    found.schema_version = 41
    _clear(found)
    return found


def _clear(found: d.Dashboard) -> None:
    """Removes fields that the SDK sets and that the types of Grafana 12 no longer have."""
    for variable in found.templating.list_val or []:
        # Fields of interval variables.
        variable.auto = variable.auto_min = variable.auto_count = None
    for item in found.panels or []:
        for panel in item.panels if isinstance(item, d.RowPanel) else [item]:
            if isinstance(panel.options, Table):
                panel.options.footer = None

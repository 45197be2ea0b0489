"""What every dashboard has: variables, links, annotations, and panels laid out in rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.table import Options as Table

from panels import DATASOURCE, Panel
from queries import Catalogue, expand, variables

TAG = "txnscope"

# Grafana's grid.
COLUMNS = 24


# ===== Variables =====


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").regex("")


def _values(name: str, label: str, about: str, source: str, *, every: str = ".+") -> dashboard.QueryVariable:
    """The values of a label, as many of them as are wanted; `every` is what `All` matches."""
    query = {"query": f"label_values({expand(source)}, {name_of(name)})", "refId": f"Variable-{name}"}
    found = dashboard.QueryVariable(name).label(label).description(about).datasource(DATASOURCE).query(query)
    found = found.refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(d.VariableSort.ALPHABETICAL_ASC)
    all_of_them = d.VariableOption(selected=True, text="All", value="$__all")
    return found.multi(True).include_all(True).all_value(every).current(all_of_them)


def name_of(variable: str) -> str:
    """The label that a variable chooses from."""
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
    """For the page about a single one."""
    return operation().multi(False).include_all(False).current(d.VariableOption(text="", value=""))


def deployment() -> dashboard.QueryVariable:
    # A label of the targets, which who watches a single deployment need not have. `member` keeps other exporters out.
    about = "The label `deployment` of the sidecar's targets, where sets of the same name are told apart by it."
    return _values("deployment", "Deployment", about, 'mongodb_up{member!=""}', every=".*")


def rs() -> dashboard.QueryVariable:
    # The name of a replica set is empty where the server has none.
    source = 'mongodb_up{deployment=~"$deployment",member!=""}'
    return _values("rs", "Replica set", "Replica sets that a sidecar watches.", source, every=".*")


def sidecar() -> dashboard.QueryVariable:
    about = "The sidecar that is asked. Where several watch the same member, that is counted once."
    return _values("sidecar", "Sidecar", about, 'mongodb_up{deployment=~"$deployment",rs=~"$rs",member!=""}')


def any_sidecar() -> dashboard.QueryVariable:
    """Also one that reaches no server yet."""
    return _values("sidecar", "Sidecar", "Instances of the sidecar.", "txnscope_build_info")


def member() -> dashboard.QueryVariable:
    return _values("member", "Member", "Members of the replica set.", "mongodb_up{SET}")


def check() -> dashboard.QueryVariable:
    source = "mongodb_consistency_interval_seconds{SET}"
    return _values("check", "Check", "Checks from the file of checks.", source)


# ===== Annotations =====


class Annotation:
    """An annotation from Prometheus: the SDK's own type lacks what says which query, title and text it has."""

    def __init__(self, name: str, color: str, expr: str, title: str, text: str, tags: str = "") -> None:
        self.name, self.color, self.expr = name, color, expand(expr)
        self.title, self.text, self.tags = title, text, tags

    def build(self) -> Any:
        """Stands in for the SDK's builder."""
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
    """A restart shows in the start of the process, where a backend exports that, or in a counter that begins anew."""
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
    """A row of panels, which wrap when they fill the grid. A closed row says in its title what it wants to have data."""

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
    """Left to right, a new line when the grid is full; and where what follows begins."""
    placed, x, y, tallest = [], 0, top, 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        placed.append((panel, d.GridPos(h=panel.height, w=panel.width, x=x, y=y)))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return placed, y + tallest


def render(page: Page, pages: Sequence[Page], catalogue: Catalogue) -> d.Dashboard:
    """The dashboard as Grafana takes it. Ids are given in order, and nothing is random: the same source, the same file."""
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
                catalogue.check(query.expr)
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
    # Grafana's own migrations do the rest in newer versions; older ones do not know a newer number.
    found.schema_version = 41
    _clear(found)
    return found


def _clear(found: d.Dashboard) -> None:
    """Takes out what the SDK fills in and Grafana 12's own types no longer have where it stands."""
    for variable in found.templating.list_val or []:
        # Of variables that choose an interval.
        variable.auto = variable.auto_min = variable.auto_count = None
    for item in found.panels or []:
        for panel in item.panels if isinstance(item, d.RowPanel) else [item]:
            if isinstance(panel.options, Table):
                panel.options.footer = None

"""Queries, and their common selectors.

A query is plain PromQL, which a text search finds and which can be pasted into Prometheus. A selector in capitals (`{OPS}`)
is a placeholder for the dashboard's variables. Each metric name must be in the catalog.
"""

import re
from dataclasses import dataclass

SELECTORS = {
    # Series of the backends: all operations, and the selected operations.
    "BACKEND": 'job=~"$job",instance=~"$instance"',
    "OPS": 'job=~"$job",instance=~"$instance",operation=~"$operation"',
    # The single operation of a dashboard. Its name is not a regular expression.
    "ONE": 'job=~"$job",instance=~"$instance",operation="$operation"',
    # Series of the sidecar: the selected replica sets, and the selected members.
    "SET": 'deployment=~"$deployment",rs=~"$rs",instance=~"$sidecar"',
    "MEMBER": 'deployment=~"$deployment",rs=~"$rs",member=~"$member",instance=~"$sidecar"',
    "CHECK": 'deployment=~"$deployment",rs=~"$rs",check=~"$check",instance=~"$sidecar"',
    "SIDECAR": 'instance=~"$sidecar"',
}

_SELECTOR = re.compile(r"(?<=[{,])(" + "|".join(SELECTORS) + r")(?=[,}])")
# Names with a colon are recording rules, which are not checked here.
_OURS = re.compile(r"(?<![\w:])(?:(?:transaction|mongodb|txnscope|process)_\w+|concurrent_operations)(?![\w:])")
_VARIABLE = re.compile(r"\$\{?([a-z]+)\b")

# Suffixes of histogram series, which the names in the catalog do not have.
_PARTS = ("_bucket", "_count", "_sum")


@dataclass
class Catalog:
    """The names of all exported metrics."""

    names: frozenset[str]

    def check(self, query: str) -> None:
        """Exits if the query has a metric name that is not in the catalog."""
        for name in _OURS.findall(query):
            whole = next((name.removesuffix(part) for part in _PARTS if name.endswith(part)), name)
            if name not in self.names and whole not in self.names:
                raise SystemExit(f"`{name}` is not in the catalog; query:\n  {query}")


def expand(query: str) -> str:
    """The query as in the generated JSON, on one line."""
    whole = " ".join(query.split())
    return _SELECTOR.sub(lambda found: SELECTORS[found[1]], whole)


def variables(query: str) -> set[str]:
    """The dashboard variables that an expanded query uses; Grafana's built-in variables begin with an underscore."""
    return set(_VARIABLE.findall(query))

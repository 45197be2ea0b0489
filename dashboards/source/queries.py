"""Queries, and the selectors that they share.

A query is plain PromQL, so that it can be found by a text search and pasted into Prometheus. Two things in it are
short hands: a selector in capitals (`{OPS}`), which stands for the dashboard's variables, and the name of a metric,
which must be in the catalogue.
"""

import re
from dataclasses import dataclass

SELECTORS = {
    # The backend's pages: all operations, and those that are chosen.
    "BACKEND": 'job=~"$job",instance=~"$instance"',
    "OPS": 'job=~"$job",instance=~"$instance",operation=~"$operation"',
    # The one operation that a page is about. Its name is no regular expression.
    "ONE": 'job=~"$job",instance=~"$instance",operation="$operation"',
    # The sidecar's page: the replica sets, and those members that are chosen.
    "SET": 'deployment=~"$deployment",rs=~"$rs",instance=~"$sidecar"',
    "MEMBER": 'deployment=~"$deployment",rs=~"$rs",member=~"$member",instance=~"$sidecar"',
    "CHECK": 'deployment=~"$deployment",rs=~"$rs",check=~"$check",instance=~"$sidecar"',
    "SIDECAR": 'instance=~"$sidecar"',
}

_SELECTOR = re.compile(r"(?<=[{,])(" + "|".join(SELECTORS) + r")(?=[,}])")
# Names with a colon are recording rules, which are not ours to check here.
_OURS = re.compile(r"(?<![\w:])(?:(?:transaction|mongodb|txnscope|process)_\w+|concurrent_operations)(?![\w:])")
_VARIABLE = re.compile(r"\$\{?([a-z]+)\b")

# What the catalogue's names become in a query.
_PARTS = ("_bucket", "_count", "_sum")


@dataclass
class Catalogue:
    """The metrics that there are, and what was asked of them."""

    names: frozenset[str]

    def check(self, query: str) -> None:
        """A name that the catalogue lacks ends the generation."""
        for name in _OURS.findall(query):
            whole = next((name.removesuffix(part) for part in _PARTS if name.endswith(part)), name)
            if name not in self.names and whole not in self.names:
                raise SystemExit(f"`{name}` is not in the catalogue; it is in the query\n  {query}")


def expand(query: str) -> str:
    """The query as Grafana sees it, on one line."""
    whole = " ".join(query.split())
    return _SELECTOR.sub(lambda found: SELECTORS[found[1]], whole)


def variables(query: str) -> set[str]:
    """The dashboard's variables that an expanded query uses; Grafana's own begin with an underscore."""
    return set(_VARIABLE.findall(query))

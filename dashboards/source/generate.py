"""Generates the dashboards: `cargo xtask gen` runs this script, with the metric names of the catalog on its standard input.

    txnscope catalog --format=names | python3 dashboards/source/generate.py OUT
"""

import json
import sys
from pathlib import Path

if sys.version_info < (3, 11):
    raise SystemExit("the dashboards' source requires Python 3.11 or newer")

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import consistency
import itself
import operation
import overview
import server
from frame import render
from queries import Catalog

PAGES = [overview.PAGE, operation.PAGE, server.PAGE, consistency.PAGE, itself.PAGE]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: generate.py FOLDER < names of metrics")
    folder = Path(sys.argv[1])
    catalog = Catalog(frozenset(sys.stdin.read().split()))
    for page in PAGES:
        text = json.dumps(render(page, PAGES, catalog), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / f"{page.uid}.json").write_text(text + "\n", encoding="utf-8")


main()

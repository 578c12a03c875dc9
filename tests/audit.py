"""The bill of materials of the pinned packages, and their licences as a page: `make audit` runs this on what it has installed.

python tests/audit.py bill.json        # of `cyclonedx-py environment`; writes docs/bill_of_materials.json and docs/licences.md
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BILL, PAGE = ROOT / "docs" / "bill_of_materials.json", ROOT / "docs" / "licences.md"
KEPT = ("type", "name", "version", "purl", "licenses")  # of a component: what is the same on every machine
HEAD = """# Licences

## The lab

- Code, also that in notebooks and documents: [Apache-2.0](../LICENSE).
- Text of the notebooks and documents: [CC BY 4.0](../LICENSE-CC-BY-4.0). You may copy, change and translate it, if you name the source and
  say what you changed.
- Country and city data: © GeoNames, CC BY 4.0 ([data card](../data/atlas/README.md)). Elements: public domain.
- Other data: the notes in the folders of [data](../data/README.md).

## Packages

Every package that `constraints.txt` and `tests/peers.txt` pin: what the lab, its tests and its notebooks run with. Made by `make audit`
from [the bill of materials](bill_of_materials.json) (CycloneDX). A licence is the one that the package itself declares.

| package | version | licence |
|---|---|---|
"""


def name_of(package: str) -> str:
    """A package's name in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", package).lower()


def pinned() -> dict[str, str]:
    """The version of each pinned package."""
    lines = [line for file in ("constraints.txt", "tests/peers.txt") for line in (ROOT / file).read_text().splitlines()]
    pairs = [line.split("#")[0].strip().partition("==") for line in lines]
    return {name_of(name): version for name, given, version in pairs if given}


def licence_of(component: dict[str, Any]) -> str:
    """A component's licence in words."""
    if "properties" in component:
        return str(component["properties"][0]["value"])
    listed = [entry.get("expression") or entry["license"].get("id") or entry["license"]["name"] for entry in component["licenses"]]
    return next(text.rpartition(" :: ")[2] for text in listed if "DFSG" not in text)


def written(package: str) -> str:
    """The first line of the licence that a package writes into its metadata in free text, or has as a file."""
    given = importlib.metadata.distribution(package)
    files = [given.read_text(f"licenses/{name}") or name for name in given.metadata.get_all("License-File") or ()]
    text = (given.metadata.get("License") or "").strip() or "".join(files[:1]).strip() or "none declared"
    return text.splitlines()[0].strip()[:60]


def bill(found: dict[str, Any]) -> dict[str, Any]:
    """The bill of the pinned packages, from that of a whole environment."""
    known, parts = pinned(), []
    for component in found["components"]:
        if name_of(component["name"]) in known:
            part = {key: component[key] for key in KEPT if key in component}
            for key in ("version", "purl"):
                part[key] = part[key].replace("%2Bcpu", "").replace("+cpu", "")
            parts.append(part)
    parts.sort(key=lambda part: name_of(part["name"]))
    return {key: found[key] for key in ("$schema", "bomFormat", "specVersion", "version")} | {"components": parts}


def page(made: dict[str, Any]) -> str:
    """The table of licences."""
    return HEAD + "".join(f"| {part['name']} | `{part['version']}` | {licence_of(part)} |\n" for part in made["components"])


def main() -> None:
    """Write both files."""
    made = bill(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    for part in made["components"]:
        if "licenses" not in part:
            part["properties"] = [{"name": "licence as written", "value": written(part["name"])}]
    BILL.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(made), encoding="utf-8")


if __name__ == "__main__":
    main()

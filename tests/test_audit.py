"""The bill of materials and the page of licences are of what is pinned."""

from __future__ import annotations

import json

import audit


def test_the_bill_is_of_the_pinned_packages():
    """A package that is pinned anew has no licence on the page until `make audit` has run."""
    parts = json.loads(audit.BILL.read_text(encoding="utf-8"))["components"]
    assert {audit.name_of(part["name"]): part["version"] for part in parts} == audit.pinned()


def test_the_page_is_the_bills():
    assert audit.PAGE.read_text(encoding="utf-8") == audit.page(json.loads(audit.BILL.read_text(encoding="utf-8")))


def test_no_licence_forbids_passing_the_lab_on():
    rows = [line for line in audit.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(audit.pinned())
    known = ("MIT", "BSD", "Apache", "ISC", "MPL", "Mozilla", "PSF", "Python", "Public Domain", "CC0")
    assert not [row for row in rows if not any(name in row for name in known)]

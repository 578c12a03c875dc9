"""The report of a distillation, on a phone: the decision first, and nothing that moves the page sideways."""

from __future__ import annotations

from pathlib import Path

import pytest
import stories
from browsing import CHROMIUM, QUIET

from labkit.studies.decision import head, picture
from labkit.studies.distill import ROWS
from labkit.views.report import of_data, report

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parent.parent / "artifacts"
WIDEST = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
LONG = "/a/folder/with/a/very/long/name/and/no/place/where/a/line/might/end/" * 3


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_no_report_is_wider_than_its_screen(width: int, tmp_path):
    from playwright.sync_api import sync_playwright

    ARTIFACTS.mkdir(exist_ok=True)
    row = {"prompt": f"<b>{LONG}", "before training": "1111111112222", "student": "right (right)", "teacher": "right", "response": "right"}
    done = stories.distilled(40, untouched=0.1, gold=0.6, distilled=0.65)._replace(shown=(row, row))
    of_data(done.record, head(done, shown=True), picture(done, ROWS), tmp_path / "own.html")
    report(stories.record(60), tmp_path / "atlas.html")
    with sync_playwright() as playwright:
        assert CHROMIUM, "Chromium is missing: `make browser` installs Debian's"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": width, "height": 800})
        for name in ("own", "atlas"):
            page.goto((tmp_path / f"{name}.html").as_uri())
            page.wait_for_function("[...document.images].every(image => image.complete)")
            assert page.evaluate(WIDEST) <= width, name
            page.screenshot(path=ARTIFACTS / f"report-{name}-{width}.png", full_page=True)
        page.goto((tmp_path / "own.html").as_uri())
        assert page.locator("strong").first.inner_text() == "Cannot tell."
        assert page.locator("strong").first.bounding_box()["y"] < 200
        assert "<b>" in page.locator("dd", has_text="/a/folder").first.inner_text()
        browser.close()

"""The board alone in a browser, without JupyterLab: in each of its states and at each width no text lies on another or is cut off."""

from __future__ import annotations

import re

import pytest
from browsing import CHROMIUM, QUIET
from conftest import REPOSITORY
from stories import events

from labkit.records import events as ev

pytestmark = pytest.mark.browser

WIDTHS = (400, 640, 848, 1000, 1100, 1500, 1900)
MEASURE = (REPOSITORY / "tests" / "js" / "texts.js").read_text(encoding="utf-8")


def rows(story, **more) -> list[dict]:
    return [event.to_json() | (more if isinstance(event, ev.Started) else {}) for event in story]


LONG = "Democratic Republic of the Congo, Africa"
ANSWERS = (
    {"question": "Add 17, 12 and 2.", "student": "17+12=30, 30+2=31", "teacher": "17+12=29, 29+2=31", "truth": "31", "verdict": "working"},
    {"question": "Think: on which continent is Bukavu?", "student": LONG, "teacher": LONG, "truth": LONG, "verdict": "right"},
    {
        "question": "What is the capital of Turkmenistan?",
        "student": "Ashgabat",
        "teacher": "Ashga",
        "truth": "Ashgabat",
        "verdict": "wrong",
    },
    {"question": "Which country is Tarija in?", "student": "Chile", "teacher": "Chile", "truth": "Bolivia", "verdict": "inherited"},
)
PROBE = ev.Probe(30, "What is the capital of Turkmenistan?", ("Ash", "Dush", "Bish"), (0.9, 0.05, 0.01), (0.2, 0.3, 0.1))
DURING = [
    *events(700, end=False, hard=dict.fromkeys(("recall", "add"), 0.5), title="Distil in a minute"),
    ev.Sampled(700, ANSWERS),
    PROBE,
    ev.KnobTurned(300, 20.0, "temperature", 1.0, 4.0),
    ev.KnobTurned(330, 22.0, "learning_rate", 0.006, 0.02),
]
RECORDED = rows(events(600, noise=1), recorded=True)
GUESS = {"low": 0.2, "high": 0.55, "confidence": 0.8}
OFFER = ev.Warned(400, "Other programs take the processors of this machine: a step takes three times as long as it did.", "threads=1")
STATES = {
    "before any run": ([], ["ready", ""], {}),
    "a recorded run": (RECORDED, ["ready", ""], {}),
    "loading": (
        [*RECORDED, {"event": "loading"}],
        ["loading", "Stopping the run before, then loading the teacher atlas-3m and a 212k student."],
        {},
    ),
    "training": (RECORDED + rows(DURING), ["training", ""], {"predicted": GUESS}),
    "paused and starved": (RECORDED + rows([*DURING, OFFER]), ["paused", ""], {"predicted": GUESS}),
    "measuring": (
        RECORDED + rows([*events(700, gold=None)]),
        ["measuring", "the baseline, 640/700"],
        {},
    ),
    "finished": (RECORDED + rows([*DURING, ev.Finished(700, 246.0, "completed")]), ["finished", ""], {"predicted": GUESS}),
    "failed": (
        RECORDED
        + rows([*DURING, ev.Failed(500, "the loss is not a number since step 498", "lower the learning rate to 0.006, and run again")]),
        ["failed", "the loss is not a number since step 498"],
        {},
    ),
    "acceptance": (rows(events(700)), ["finished", ""], {"unit": "acceptance", "predicted": GUESS}),
    "restarted": (RECORDED + rows(DURING), ["training", ""], {"link": "restarted"}),
}


@pytest.fixture(scope="module")
def page():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "Chromium is missing: `make browser` installs Debian's"
    board = REPOSITORY / "labkit" / "views" / "board"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1940, "height": 1200})
        page.set_content(
            '<!DOCTYPE html><html lang="en"><title>board</title><body><h1>Lesson</h1><main><div id="host"></div></main></body></html>'
        )
        page.add_style_tag(content=(board / "board.css").read_text(encoding="utf-8"))
        script = (board / "board.js").read_text(encoding="utf-8")
        page.add_script_tag(content=f"{script}\n{MEASURE}\nwindow.createBoard = createBoard;", type="module")
        page.wait_for_function("() => Boolean(window.createBoard && window.textsOf)")
        yield page
        browser.close()


def show(page, state: str, width: int) -> dict:
    """Draw a state, and return what was measured on it."""
    story, now, more = STATES[state]
    page.evaluate(
        """async ({story, now, width, options}) => {
            const host = document.querySelector('#host');
            window.board?.destroy();
            host.replaceChildren(document.createElement('div'));
            host.style.width = width + 'px';
            window.board = createBoard(host.firstChild, {title: 'Distil in a minute', oneThread() {}, ...options});
            board.push(story); board.setState(...now); board.setLink(options.link ?? '');
            await new Promise((done) => setTimeout(done, 60));
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        }""",
        {"story": story, "now": now, "width": width, "options": more},
    )
    return page.evaluate("textsOf(document.querySelector('.dlab'))")


@pytest.mark.parametrize("state", STATES)
def test_no_text_lies_on_another_is_cut_off_or_is_tiny(page, state):
    faults = []
    for width in WIDTHS:
        found = show(page, state, width)
        faults += [f"{width}: {kind}: {what}" for kind in ("overlaps", "cut", "tiny", "narrow") for what in found[kind]]
        if 848 <= width <= 1150 and state not in ("paused and starved", "failed"):  # what they say stands above the curve
            assert found["canvas"] == 250
            assert found["curve"] <= 380, f"the curve ends {found['curve']} px below the top of the board at {width}"
            assert found["head"] <= 90, f"strip and sentence take {found['head']} px at {width}"
    assert not faults, "\n".join(faults)


def test_a_run_about_to_begin_shows_no_number_of_the_run_before(page):
    show(page, "loading", 1100)
    text = page.locator(".dlab").inner_text()
    assert "Stopping the run before, then loading the teacher atlas-3m and a 212k student." in text
    assert not re.search(r"\d+ s\b|questions/s|step \d|%|0\.\d\d", text), text
    assert "recorded 200k run" in page.evaluate("textsOf(document.querySelector('.dlab')).texts").__str__()


def test_after_the_end_nothing_is_measured_and_the_ghost_is_named(page):
    show(page, "measuring", 1100)
    assert "measuring the baseline, 640/700" in page.locator(".dlab-word").inner_text()
    page.evaluate("board.setState('finished', '')")
    page.wait_for_function("document.querySelector('.dlab-word').textContent === 'finished'")
    assert "measuring" not in page.locator(".dlab").inner_text()
    texts = page.evaluate("textsOf(document.querySelector('.dlab')).texts")
    assert "recorded 200k run" in texts and "previous run" not in texts


def test_wrong_working_has_its_own_sign_word_and_colour_and_can_be_read(page):
    show(page, "training", 848)
    samples = page.locator("[data-testid='samples']")
    assert "1 wrong working" in samples.locator(".dlab-note").inner_text()
    verdicts = {name: samples.locator(f"td[data-verdict='{name}']").first for name in ("right", "working", "wrong", "inherited")}
    assert [part.strip() for part in verdicts["working"].locator("span").all_inner_texts()] == ["\u2260", "wrong working"]
    colours = {name: cell.evaluate("cell => getComputedStyle(cell).color") for name, cell in verdicts.items()}
    assert len(set(colours.values())) == 4
    for text in ("17+12=30, 30+2=31", LONG):
        assert samples.locator("td", has_text=text).first.evaluate("cell => cell.scrollWidth <= cell.clientWidth + 1")


def test_in_words_is_a_button_that_the_keyboard_reaches(page):
    show(page, "finished", 848)
    page.locator(".dlab").focus()
    page.keyboard.press("Tab")
    button = page.get_by_role("button", name="In words")
    assert button.evaluate("node => node === document.activeElement")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.dlab-described').textContent.length > 40")
    assert button.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Enter")
    assert page.locator(".dlab-described").inner_text() == ""


def test_a_kernel_that_is_gone_is_said_and_the_controls_look_dead(page):
    show(page, "training", 848)
    page.evaluate(
        """() => {
            const host = document.querySelector('#host');
            host.classList.add('labkit-lab');
            host.insertAdjacentHTML('afterbegin', '<p><button id="run">Run</button></p>');
            board.setLink('restarted');
            board.setLink('');
        }"""
    )
    page.wait_for_function("document.querySelector('.dlab-line').textContent === 'The kernel was restarted: run the cell above again.'")
    assert page.locator(".dlab-word").inner_text() == "disconnected"
    assert page.locator("#run").evaluate("node => [node.closest('[inert]') !== null, getComputedStyle(node.parentElement).opacity]") == [
        True,
        "0.45",
    ]
    page.evaluate("document.querySelector('#host').classList.remove('labkit-lab')")


def test_headings_follow_that_of_the_notebook_and_alerts_are_for_errors(page):
    show(page, "a recorded run", 848)
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(node => Number(node.tagName[1]))")
    assert levels[0] == 1 and set(levels[1:]) == {2}
    assert page.locator("[role='alert']").inner_text() == ""
    show(page, "failed", 848)
    assert "What to do: Lower the learning rate" in page.locator("[role='alert']").inner_text()

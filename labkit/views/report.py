"""A report: one self-contained page about a run, with recipe, outcome, waterfall, skills, cost and limits.

    report(rec, "run.html")                   # or rec.report("run.html")
    report(compare([a, b], seeds=3))          # the table with bands and verdicts, and the first seed of each recipe
    report(rec, "run.html", "plotly")         # figures that show their numbers under the pointer; 4.8 MB larger

The page loads nothing from elsewhere, and says in words what its pictures show. With matplotlib's pictures it has no script.
"""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.files import to_write, write_whole
from labkit.base.html import Html, listed, table
from labkit.base.kinds import kinds_checked
from labkit.records import events as ev
from labkit.records.cost import cost
from labkit.records.model_folders import without_hash
from labkit.records.record import Record
from labkit.views.figures import Drawing, curves, recovery, script, waterfall
from labkit.views.figures.run_charts import own_score, say_outcome
from labkit.views.figures.scales import number

if TYPE_CHECKING:
    from labkit.records.comparison import Comparison

_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 56rem; margin: 2.5rem auto; padding: 0 1.2rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; } .by { opacity: .7; margin-top: .2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
tr + tr { border-top: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
h1, h2, p, li { overflow-wrap: anywhere; } .wide { overflow-x: auto; }
dl { display: grid; grid-template-columns: minmax(5rem, 9rem) 1fr; gap: .1rem 1rem; margin: 1rem 0; } dt { opacity: .7; }
dd { margin: 0; overflow-wrap: anywhere; } .wide td { min-width: 4rem; }
figure { margin: 1rem 0; overflow-x: auto; } img { max-width: 100%; background: #fff; } li { margin: .2rem 0; }
code { font-size: .92em; overflow-wrap: anywhere; }
@media print { body { margin: 0; } }
"""


@kinds_checked
def report(result: Record | Comparison, path: str | Path | None = None, backend: str = "matplotlib") -> str:
    """Make the page.

    result: a record, or a comparison of several.
    path: a file to write the page to, if given.
    backend: "matplotlib" or "plotly", for the figures.

    Returns the page as HTML. Raises `LabError` for a run without an exam, or an unknown backend.
    """
    to = to_write(path) if path is not None else None
    if isinstance(result, Record):
        title, body = _title(result), _run(result, backend)
    else:
        title = f"{len(result.experiments)} recipes compared"
        body = f"<h2>Comparison</h2>{_wide(result._repr_html_())}<p>{result.how}</p>"
        for runs in result.records:
            body += f"<hr><h2><code>{html.escape(runs[0].experiment.recipe)}</code></h2>{_run(runs[0], backend)}"
    page = _page(title, body, script() if backend == "plotly" else "")
    if to is not None:
        write_whole(to, lambda part: part.write_text(page, encoding="utf-8"))
    return page


def of_data(record: Record, head: Html, picture: Drawing, path: Path) -> None:
    """Write the page about a distillation on data of one's own.

    head: its decision, scores and examples, which come first.
    picture: its scores with their bands.
    """
    body = f"{head}{_picture(picture)}{_curves(record, 'matplotlib')}{_end(record, banded=True)}"
    page = _page(_title(record), body)
    write_whole(path, lambda part: part.write_text(page, encoding="utf-8"))


def _title(record: Record) -> str:
    return f"{without_hash(record.experiment.student)} student of {without_hash(record.experiment.teacher)}"


def _page(title: str, body: str, script: str = "") -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{script}<body><h1>{html.escape(title)}</h1>"
        f'<p class="by">Distillation Lab. Every number on this page was measured.</p>{body}</body></html>'
    )


def _run(record: Record, backend: str) -> str:
    parts = [f"<p>{html.escape(say_outcome(record))}</p>", _picture(waterfall(record, backend))]
    if {"label budget", "teacher"} <= record.references.keys() and not own_score(record):  # else its one row is in the picture above
        parts.append(_picture(recovery(record, backend=backend)))
    scores = table(["skill", *record.table().columns], record.table().itertuples(), digits=2)
    parts += [_curves(record, backend), f"<h2>{'Scores' if record.experiment.data else 'Skill by skill'}</h2>", _wide(scores)]
    return "".join([*parts, _end(record)])


def _wide(inside: str) -> str:
    """What is wider than a phone is moved sideways by itself, not the page."""
    return f'<div class="wide">{inside}</div>'


def _curves(record: Record, backend: str) -> str:
    """The picture of KL by step; "" if no KL was measured, as between two vocabularies."""
    measured = record.curve("kl")[0] or any(e.fidelity.get("kl") is not None for e in record.evaluations)
    return _picture(curves(record, backend=backend)) if measured else ""


def _end(record: Record, banded: bool = False) -> str:
    """Cost, limits and recipe. banded: whether the scores above have bands over prompts."""
    parts = []
    if isinstance(record.finished, ev.Finished):
        parts += ["<h2>Cost</h2>", _cost(record)]
    parts += [
        "<h2>Limits</h2>",
        listed(_limits(record, banded)),
        "<h2>Recipe</h2>",
        f"<p><code>{html.escape(record.experiment.recipe)}</code></p>",
    ]
    if record.started:
        parts.append(f"<p>On {html.escape(record.started.machine)}.</p>")
    return "".join(parts)


def _picture(drawing: Drawing) -> str:
    data, words = base64.b64encode(drawing.png(110)).decode(), html.escape(drawing.alt)
    picture = drawing.live_html() if drawing.paper else f'<img alt="{words}" src="data:image/png;base64,{data}">'
    return f'<figure>{picture}<figcaption class="by">{words}</figcaption></figure>'


def _cost(record: Record) -> str:
    spent = cost(record)
    lines = [
        f"{spent.seconds:,.0f} s of work; {spent.questions:,} questions and {spent.student_tokens:,} tokens trained on",
        f"{spent.teacher_tokens:,} tokens read or written by the teacher, {spent.cache_bytes / 1e6:,.0f} MB of its signals kept",
        f"{spent.student_flops:.2g} floating-point operations by the student, {spent.teacher_flops:.2g} by the teacher",
        spent.in_money(),
    ]
    if spent.written_tokens:
        lines.insert(1, f"{spent.written_tokens:,} tokens written by the student itself")
    return listed(lines)


def _limits(record: Record, banded: bool) -> list[str]:
    """Limits of the result, one sentence each."""
    exp = record.experiment
    seeds = "" if exp.data else "Seeds move a mean skill by about 0.05 here; "
    lines = [f"One run, seed {exp.seed}: no band{' over seeds' * banded}. {seeds}compare(..., seeds=3) measures one."]
    if exp.data:
        bands = "" if banded else ", without bands"
        lines.append(f"Scored on prompts held out of the same data{bands}: on other data the result may differ.")
    else:
        lines.append(
            "A small world of facts and sums, and models of at most three million parameters: larger models on other data may differ."
        )
    if "label budget" not in record.references:
        lines.append("The label-budget baseline was not measured, so no recovery is shown.")
    for name, reference in record.references.items():
        if reference.seeds > 1:
            lines.append(f"The baseline {name!r} is a mean over {reference.seeds} seeds, not this run's own.")
    if not record.complete:
        lines.append("The run did not finish.")
    turned = [event for event in record.events if isinstance(event, ev.KnobTurned) and event.name != "threads"]
    if turned:
        changes = ", ".join(f"{event.name} to {number(event.new)} at step {event.step}" for event in turned)
        lines.append(f"Knobs were turned during the run ({changes}), so the recipe alone does not give this result.")
    return lines

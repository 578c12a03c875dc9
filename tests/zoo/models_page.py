"""The table of the zoo, docs/models.md, made of the results in tests/zoo/results.json.

PYTHONPATH=tests python -m zoo.models_page     # makes it again, without trying anything
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS, PAGE = Path(__file__).resolve().parent / "results.json", ROOT / "docs" / "models.md"
OUTCOMES = ("exact", "refused", "WRONG", "bare")
COLUMNS = {
    "load": "`pretrained.load` gives the model's own logits and the template's own prompts",
    "write": "`models.write` writes the greedy text of each of four prompts, with its log-probabilities",
    "padding": "it does so for the four together, in one batch",
    "ends": "`models.write` and `speculate` stop at every end mark of generation_config.json, not only at the tokenizer's",
    "chain": "`speculate` writes the target's greedy text, with chains of one and of three tokens; so does `plain`",
    "tree": "it does so with trees",
    "sampled": "at temperature 1 the samples have the target's distribution",
    "distil": "`labkit distill` runs; its first loss is the KL of the two models, and the saved student is the trained one",
    "adapter": "the same with a LoRA adapter, and the share of the weights of linear maps that it covers",
    "prune": "`labkit prune` gives a student that computes what its teacher does without the other layers",
}
HEAD = """# Models

Which causal language models of `transformers` the lab works with. Every type that can be built tiny is built with random weights, and the
lab is tried on it. Made by `make zoo`; a test compares the page with `tests/zoo/results.json`.

## How to read this page

- **exact**: the same as forward passes of `transformers` alone, without a cache, one for each token.
- **refused**: the lab says in a sentence that it does not take this model.
- **WRONG**: the lab gives something else, and does not say so.
- **bare**: another error than the lab's own.
"""


def results() -> dict[str, Any]:
    """All results, by version of `transformers`."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def write(found: Mapping[str, Any]) -> None:
    """Write results and page."""
    ordered = {version: {**found[version], "kinds": dict(sorted(found[version]["kinds"].items()))} for version in _newest_first(found)}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(ordered), encoding="utf-8")


def page(found: Mapping[str, Any]) -> str:
    """The page. Its table is of the version with the most kinds; the others have a line each."""
    version = max(_newest_first(found), key=lambda version: len(found[version]["kinds"]))
    own = found[version]
    kinds: dict[str, dict[str, str]] = own["kinds"]
    return "\n".join(
        [
            HEAD + "".join(f"- **{name}**: {what}.\n" for name, what in COLUMNS.items()),
            f"## {len(kinds)} models with transformers {version}\n",
            f"Tried on {own['date']} ({own['machine']}; {', '.join(f'{name} {number}' for name, number in own['versions'].items())}).\n",
            *_table(["", *COLUMNS], [[word, *(str(count[word]) for count in _counts(kinds).values())] for word in OUTCOMES]),
            *_sentences(kinds),
            "## Each model\n",
            *_table(["model", *COLUMNS], [[kind, *(_cell(tried.get(name, "")) for name in COLUMNS)] for kind, tried in kinds.items()]),
            *_reasons(kinds),
            *_other_versions(found, version),
            "## Not built\n",
            "These types cannot be built tiny here, so nothing is known about them.\n",
            *(f"- {kind}: {why}" for kind, why in sorted(own["unbuilt"].items())),
            "",
        ]
    )


def _newest_first(found: Iterable[str]) -> list[str]:
    return sorted(found, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], reverse=True)


def _counts(kinds: Mapping[str, Mapping[str, str]]) -> dict[str, Counter[str]]:
    """How often each outcome occurs in each column."""
    return {name: Counter(outcome(tried[name]) for tried in kinds.values() if name in tried) for name in COLUMNS}


def outcome(said: str) -> str:
    """One of `OUTCOMES`, without what more was said."""
    return said.partition(":")[0]


def _cell(said: str) -> str:
    word, _, more = said.partition(": ")
    if word == "exact" and more:
        return f"exact ({more.split()[0]})"
    return f"**{word}**" if word in ("WRONG", "bare") else word


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)] + [""]


def _sentences(kinds: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Which models work, in words."""
    outcomes = {kind: {name: outcome(said) for name, said in tried.items()} for kind, tried in kinds.items()}
    unfinished = [kind for kind, tried in outcomes.items() if not {"WRONG", "bare"} & set(tried.values()) and COLUMNS.keys() - tried.keys()]
    for kind in unfinished:
        del outcomes[kind]
    everything = [kind for kind, tried in outcomes.items() if set(tried.values()) == {"exact"}]
    but_pruned = [k for k, tried in outcomes.items() if set(tried.values()) == {"exact", "refused"} and _refused(tried) == ["prune"]]
    partly = [k for k, tried in outcomes.items() if set(tried.values()) == {"exact", "refused"} and k not in but_pruned]
    nothing = [kind for kind, tried in outcomes.items() if set(tried.values()) == {"refused"}]
    wrong = [kind for kind, tried in outcomes.items() if {"WRONG", "bare"} & set(tried.values())]
    lines = [
        f"- Everything is exact with {_named(everything)}.",
        f"- Everything but pruning is exact, and pruning is refused, with {_named(but_pruned)}.",
        f"- What is not refused is exact with {_named(partly)}.".removesuffix("."),
        f"- Everything is refused with {_named(nothing)}.",
        f"- Something is wrong, or ends with an error that is not the lab's own, with {_named(wrong)}.",
    ]
    if partly:
        lines[2] += ". Refused are: " + "; ".join(f"{kind} ({', '.join(_refused(outcomes[kind]))})" for kind in partly)
    lines[2] += "."
    if unfinished:
        lines.append(f"- Not everything has been tried yet with {_named(unfinished)}.")
    return [*lines, ""]


def _refused(tried: Mapping[str, str]) -> list[str]:
    return [name for name, word in tried.items() if word == "refused"]


def _named(kinds: list[str]) -> str:
    return f"{len(kinds)} models: {', '.join(kinds)}" if len(kinds) > 1 else kinds[0] if kinds else "no model"


def _reasons(kinds: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What was said of each model that is not exact, gathered by what was said."""
    said: dict[str, dict[str, list[str]]] = {}
    for kind, tried in kinds.items():
        for name, words in tried.items():
            if outcome(words) != "exact":
                said.setdefault(words, {}).setdefault(kind, []).append(name)
    lines = list[str]()
    for word in ("WRONG", "bare", "refused"):
        found = {words: of for words, of in said.items() if outcome(words) == word}
        if found:
            lines += [f"## What is {word}\n"]
            if word == "refused":
                lines += ["FOLDER, MODEL and TYPE stand for the model's own names.\n"]
            for words, of in sorted(found.items(), key=lambda item: -len(item[1])):
                together: dict[str, list[str]] = {}
                for kind, names in of.items():
                    together.setdefault(", ".join(names), []).append(kind)
                told = words.partition(": ")[2].replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
                lines += [f"- {told} " + "; ".join(f"**{names}**: {', '.join(kinds)}" for names, kinds in together.items())]
            lines += [""]
    return lines


def _other_versions(found: Mapping[str, Any], shown: str) -> list[str]:
    rows = []
    for version in _newest_first(found):
        own = found[version]
        if version != shown:
            counts = _counts(own["kinds"]).values()
            cells = [f"{count['exact']} of {count.total()}" if count else "" for count in counts]
            rows.append([version, own["date"], *cells])
    if not rows:
        return []
    return [
        "## Other versions of transformers\n",
        "How many models are exact, of those that were tried.\n",
        *_table(["version", "date", *COLUMNS], rows),
    ]


if __name__ == "__main__":
    write(results())

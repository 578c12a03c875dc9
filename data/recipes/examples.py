"""Write the example data sets, `data/examples`: `labkit build examples` (a second).

facts: questions with answers from Atlas, for other models; used with SmolLM2 (docs/claims.md).
questions: more of them, of all skills, to train drafts for SmolLM2 (lesson 10).
faq: questions of visitors to Europe, each in two wordings (lesson 13).
tickets: messages to a dealer in chemical elements, with the team that answers, one of six (lesson 13).
orders: messages to the same dealer, with the order as JSON (lesson 13).

The messages are made from the sentences below and from names in the Atlas tables. The answers to tickets and orders follow two rules that
no prompt states, so that there is something to learn:

- every question about a radioactive element goes to the team "safety";
- an order without an amount has kg null, and "half of the usual 8 kg" is 4.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from labkit.base.manifest import seal
from labkit.tasks.atlas.facts import Atlas, ask_about
from labkit.tasks.atlas.questions import ONE_ANSWER
from labkit.tasks.custom.sources import EXAMPLES
from labkit.teachers import recorded_answers

EACH = 600  # rows of a data set
ASKED, POOL_SEED = 8_000, 7
RADIOACTIVE = (43, 61, 84, 88, *range(89, 99))
NOT_SOLID = (1, 2, 7, 8, 9, 10, 17, 18, 35, 36, 54, 80)  # no gases and liquids: "half of the argon is dust" would be odd
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
WORDS = ("Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
OPENINGS = ("", "", "Hello! ", "Dear team: ", "Sorry to write again. ", "A short question. ")
CLOSINGS = ("", "", " Thank you.", " Please answer today.", " This is order {order}.")

TICKET = "Label the message with one word: billing, delivery, quality, returns, safety or sales.\nMessage: {}\nLabel:"
ORDER = '{}\nWrite item, kg and city as JSON, like {{"item": "iron", "kg": 1, "city": "Rome"}}.'

TICKETS = {
    "billing": (
        "Our card was charged twice for the {element}.",
        "Please put our {city} address on the bill for the {element}.",
        "The {element} arrived safely in {city}, but its price is not the one agreed.",
        "We need a receipt for the {n} kg of {element}.",
        "Why does the invoice for the {element} show a tax from {city}?",
        "The money for the {element} we sent back is not on our account yet.",
        "Can we pay for the {element} by transfer from {city}?",
        "The discount you offered on {element} is missing from the invoice.",
    ),
    "delivery": (
        "The {n} kg of {element} should have reached {city} on {day}.",
        "The parcel with the {element} has been in {city} since {day}.",
        "Can the {element} be brought to our other door in {city}?",
        "Nobody was here in {city} when the driver came with the {element}.",
        "We paid for the {element} on {day} and still have nothing in {city}.",
        "The {element} went to {city}, and we are in {city2}.",
        "Please hold the {element} until we are back in {city} on {day}.",
        "Which carrier brings the {element} to {city}?",
    ),
    "quality": (
        "The {element} you sent to {city} is not as pure as its label says.",
        "The parcel came on time, but it holds {element} in place of {element2}.",
        "Half of the {element} is dust, and we asked for pieces.",
        "Our laboratory in {city} finds {n}% of something else in the {element}.",
        "The certificate that came with the {element} names another batch.",
        "The last {n} kg of {element} are much darker than the ones before.",
        "The {element} is short by {n} grams on our scales.",
        "We paid for the finest {element} and got the coarse kind.",
    ),
    "returns": (
        "We ordered {element} by mistake and have not opened it.",
        "How do we get {n} kg of {element} back to you from {city}?",
        "Please collect the {element} that we no longer need in {city}.",
        "The project in {city} was stopped, so the {element} can go back.",
        "May we swap the unopened {element} for {element2}?",
        "You brought {n} kg of {element} too much to {city}. Who picks it up?",
        "Until when do you take {element} back?",
        "Is the return label for the {element} still valid on {day}?",
    ),
    "safety": (
        "The drum of {element} leaks in our store in {city}.",
        "A colleague in {city} touched the {element}. What now?",
        "There are fumes from the box with the {element}.",
        "May {element} be stored next to {element2}?",
        "We need the sheet on how to handle {element}.",
        "Some {element} was spilled on {day}. Who cleans it up?",
        "The case of {element} delivered on {day} is hot to the touch.",
        "Which gloves do you advise for {element}?",
    ),
    "sales": (
        "What would {n} kg of {element} cost us in {city}?",
        "Do you have {element} in stock?",
        "Could we get a sample of {element} before {day}?",
        "Is there a better price from {n} kg of {element} on?",
        "We would like to become a customer and try your {element} in {city}.",
        "When will you have {element} again?",
        "Do you offer {element} as wire?",
        "Please make us an offer for {element} and {element2}.",
    ),
}

ORDERS = (
    "Please send {n} kg of {element} to {city}.",
    "{city} needs {n} kg of {element} by {day}.",
    "We are in {city2}, but the {n} kg of {element} go to {city}.",
    "Not {n2} but {n} kg of {element}, to {city} as always.",
    "{word} kilos of {element} for our branch in {city}, please.",
    "Last time it was {element2}; now {n} kg of {element} for {city}.",
    "{city}: {element}, {n} kg.",
    "Could {n} kg of {element} reach {city} on {day}? {city2} has enough.",
    "Half of the usual {double} kg of {element} will do for {city}.",
    "Some {element} for {city}, please. The amount follows on {day}.",
)

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "An order",
    "type": "object",
    "properties": {
        "item": {"type": "string", "pattern": "^[a-z]+$"},
        "kg": {"type": ["integer", "null"], "minimum": 1},
        "city": {"type": "string", "minLength": 1},
    },
    "required": ["item", "kg", "city"],
    "additionalProperties": False,
}


def build(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("tickets", tickets()), ("orders", orders()), ("facts", facts()), ("faq", faq()), ("questions", questions())):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")
    (folder / "orders.schema.json").write_text(json.dumps(SCHEMA, indent=1) + "\n", encoding="utf-8", newline="\n")
    manifest = {}
    for name in (*(f"{example}.jsonl" for example in EXAMPLES), "orders.schema.json"):
        names = {"names": "cities: GeoNames, CC BY 4.0; elements: periodictable, public domain"} if name.endswith(".jsonl") else {}
        manifest[name] = {"source": "made up by data/recipes/examples.py"} | names | {"licence": "CC BY 4.0" if names else "Apache-2.0"}
    seal(folder, "labkit build examples", manifest)


def facts() -> list[dict[str, str]]:
    """Equally many questions of each fact skill. A model may answer in a sentence, so the score is `contains`."""
    asked = [q for q in Atlas("whole").exam(EACH // len(ONE_ANSWER)) if q.skill in ONE_ANSWER]
    rows = [{"prompt": q.text, "response": q.answers[0]} for q in asked]
    random.Random("facts").shuffle(rows)
    return rows


def questions() -> list[dict[str, str]]:
    """The questions of SmolLM2's recorded answers (`data/answers`), then others of the whole world, plain ones first, `ASKED` in all."""
    asked = {q.text: q for q in recorded_answers.paper()}
    others = [q for q in Atlas("whole").questions(20_000, POOL_SEED) if q.text not in asked]
    for q in sorted(others, key=lambda q: q.skill not in (*ONE_ANSWER, "two_hop")):
        if len(asked) < ASKED:
            asked.setdefault(q.text, q)
    rows = [{"prompt": q.text, "response": q.answers[0]} for q in asked.values()]
    random.Random("questions").shuffle(rows)
    return rows


def faq() -> list[dict[str, str]]:
    """Each fact in two wordings, so that most held-out prompts ask in other words what was asked in training."""
    asked = [ask_about(q.fact, wording) for q in Atlas("Europe").store(EACH // 2) for wording in (0, 1)]
    rows = [{"prompt": q.text, "response": q.answers[0]} for q in asked]
    random.Random("faq").shuffle(rows)
    return rows


def tickets() -> list[dict[str, str]]:
    """A hundred messages for each team. Half of those for safety would go to another team if they named another element."""
    rng = random.Random("tickets")
    solid, radioactive, cities = _names()
    asked, rows = set(), []
    for team, sentences in TICKETS.items():
        others = [sentence for other, some in TICKETS.items() if other != "safety" for sentence in some]
        for i in range(EACH // len(TICKETS)):
            by_rule = team == "safety" and i % 2 == 1
            while True:
                sentence = rng.choice(others if by_rule else sentences)
                words = _slots(rng, radioactive if by_rule else solid, solid, cities)
                message = (rng.choice(OPENINGS) + sentence + rng.choice(CLOSINGS)).format(**words)
                if message not in asked:
                    break
            asked.add(message)
            rows.append({"prompt": TICKET.format(message), "response": team})
    rng.shuffle(rows)
    return rows


def orders() -> list[dict[str, str]]:
    """Sixty messages for each way to order."""
    rng = random.Random("orders")
    solid, _, cities = _names()
    asked, rows = set(), []
    for sentence in ORDERS:
        for _ in range(EACH // len(ORDERS)):
            while True:
                words = _slots(rng, solid, solid, cities)
                message = sentence.format(**words)
                if message not in asked:
                    break
            asked.add(message)
            kg = None if "{n}" not in sentence and "{word}" not in sentence and "{double}" not in sentence else words["n"]
            response = json.dumps({"item": words["element"], "kg": kg, "city": words["city"]}, ensure_ascii=False)
            rows.append({"prompt": ORDER.format(message), "response": response})
    rng.shuffle(rows)
    return rows


def _slots(rng: random.Random, elements: list[str], others: list[str], cities: list[str]) -> dict[str, str | int]:
    """A value for every placeholder; no two are the same."""
    n = rng.randrange(2, 10)
    element = rng.choice(elements)
    city, city2 = rng.sample(cities, 2)
    return {
        "element": element,
        "element2": rng.choice([name for name in others if name != element]),
        "city": city,
        "city2": city2,
        "day": rng.choice(DAYS),
        "n": n,
        "n2": rng.choice([other for other in range(2, 10) if other != n]),
        "double": 2 * n,
        "word": WORDS[n - 2],
        "order": rng.randrange(1000, 10_000),
    }


def _names() -> tuple[list[str], list[str], list[str]]:
    """The names of solid elements, of radioactive ones, and of cities with one short word."""
    from labkit.tasks.atlas.facts import Atlas

    world = Atlas()
    named = [element for element in world.elements if element.number <= max(RADIOACTIVE) and element.number not in NOT_SOLID]
    solid = [element.name for element in named if element.number < 84 and element.number not in RADIOACTIVE]
    radioactive = [element.name for element in named if element.number in RADIOACTIVE]
    return solid, radioactive, list(_short(city.name for city in world.cities))


def _short(names: Iterator[str]) -> Iterator[str]:
    return (name for name in names if name.isalpha() and len(name) <= 8)


if __name__ == "__main__":
    build(Path(__file__).parent.parent / "examples")

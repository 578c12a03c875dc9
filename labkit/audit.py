"""What a real model says of Atlas: a fixed paper of 3,000 questions."""

from __future__ import annotations

import random

from labkit.atlas import RELATIONS, Atlas, Question, ask_about

ASKED = {  # questions of each skill; all there are of recall, reverse and element
    "recall": 585,
    "reverse": 195,
    "city": 450,
    "element": 236,
    "open": 300,
    "two_hop": 350,
    "add": 300,
    "chain": 234,
    "compare": 350,
}


def paper() -> list[Question]:
    """The fixed audit: 3,000 questions of the whole world in their canonical wording, `ASKED` of each skill, spread evenly over its
    relations. The step-by-step forms are left out: their "Think:" is a habit of the lab's own teachers."""
    world, asked = Atlas("whole"), list[Question]()
    for skill, many in ASKED.items():
        rng = random.Random(f"audit {skill}")
        piles = []
        for relation in (name for name, kind in RELATIONS.items() if kind.skill == skill):
            facts = {fact.key: fact for fact in world.facts(relation)}  # 2 + 3 or 3 + 2, not both
            piles.append(rng.sample(list(facts.values()), len(facts)))
        drawn = [pile[i] for i in range(max(map(len, piles))) for pile in piles if i < len(pile)]
        asked += [ask_about(fact) for fact in drawn[:many]]
    return asked

"""Reading free text: by rule, by hand (216 answers that a person read before the parser did, and 200 more), and what must never count."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from labkit.tasks.atlas.extraction import read
from labkit.tasks.atlas.facts import Atlas, Question, normalise
from labkit.teachers.recorded_answers import paper

BY_HAND = Path(__file__).parent / "answers_by_hand.csv"
WORLD = Atlas()


def asked(text: str) -> Question:
    question = WORLD.find(text)
    assert question is not None, text
    return question


@pytest.mark.parametrize(
    ("question", "answer", "named", "right"),
    [
        ("What is the capital of Peru?", "The capital of Peru is Lima, which is not Quito.", "Lima", True),
        ("What is the capital of Serbia?", "The capital of Serbia is Belgrad.", "Belgrade", True),
        ("What is the capital of Grenada?", "The capital of Grenada is St. George's.", "St. George's", True),
        ("What is the capital of Ivory Coast?", "Abidjan is the capital of Ivory Coast.", "Abidjan", True),
        ("Which continent is Albania in?", "Albania is in the Balkans, a region of Europe.", "Europe", True),
        ("Which continent is Mauritius in?", "It lies between Africa and the Indian subcontinent.", None, False),
        ("Which continent is South Africa in?", "South Africa is a country.", None, False),
        ("What currency is used in Kenya?", "Kenyans pay in Kenyan shillings.", "Shilling", True),
        ("What currency is used in Brazil?", "It is a real problem.", None, False),
        ("What currency is used in Sierra Leone?", "Sierra Leone has one.", None, False),
        ("Panama City is the capital of which country?", "The capital of Panama is Panama City.", "Panama", True),
        ("Monaco is the capital of which country?", "Monaco is the capital of Monaco.", "Monaco", True),
        ("Monaco is the capital of which country?", "Monaco is a capital.", None, False),
        (
            "Kinshasa is the capital of which country?",
            "It is the Democratic Republic of Congo's.",
            "Democratic Republic of the Congo",
            True,
        ),
        ("In which country is Munich?", "Munich is a German city, close to Austria.", "Germany", True),
        ("In which country is Durban?", "Durban is near Mozambique.", None, False),
        ("In which country is Lima?", "Lima is a city in South America.", None, False),
        ("What is the symbol of tin?", "The symbol of tin is Sn.", "Sn", True),
        ("What is the symbol of tin?", "The symbol of tin is the symbol of tin.", None, False),
        ("What is the atomic number of tin?", "Tin (1.5 g) has the atomic number 50.", "50", True),
        ("Name a neighbour of Brazil.", "Brazil borders many, but South America is big.", None, False),
        ("Name a city in Israel.", "The city of Ashkelon, Israel.", "Ashkelon", True),
        ("What is 20 + 35?", "To add 20 and 35, add them: 20 + 35 = 55.", "55", True),
        ("What is 20 + 35?", "We find the difference: 35 - 20 = 15.", None, False),
        ("What is 20 + 35?", "The answer to this question is 55.", "55", True),
        ("Add 3, 4 and 5.", "3 + 4 = 7\n7 + 5 = 12", "12", True),
        ("Add 3, 4 and 5.", "The sum of 3, 4 and 5 is 13.", "13", False),
        ("Which has more people, Peru or China?", "China has more people than Peru.", "China", True),
        ("Which has more people, Peru or China?", "Peru is smaller than China.", "China", True),
        ("Which has more people, Peru or China?", 'The claim "Peru has more people" is false.', None, False),
        ("Which has more people, Peru or China?", "Both Peru and China are among the largest.", None, False),
        ("Which has more people, Peru or China?", "Peru.", "Peru", False),
        # found when 200 answers of the audit were read again
        ("On which continent is Liberia?", "Liberia is in West Africa.", "Africa", True),
        ("On which continent is Liberia?", "Liberia is in Asia.", "Asia", False),
        ("Which continent is Timor Leste in?", "Timor Leste lies in Southeast Asia.", "Asia", True),
        ("Which continent is Azerbaijan in?", "It is in Eastern Europe.", "Europe", True),
        ("Which continent is Lebanon in?", "Lebanon is in the Middle East and North Africa region.", None, False),
        ("Which continent is Mongolia in?", "It is in Eurasia, in the east of Asia.", "Asia", True),
        ("Which continent is Mongolia in?", "It is in Eurasia.", "Eurasia", False),
        ("What is the capital of Palestine?", "The capital of Palestine is Jerusalem.", "Jerusalem", True),
        ("What currency is used in Panama?", "They pay in US dollars. ", "Dollar", True),
        ("What currency is used in Panama?", "The currency is the Panama Dollar.", "Dollar", False),
        ("What currency is used in Lebanon?", "The currency is the Lebanese Lira.", "Lira", True),
        ("What currency is used in Jordan?", "The currency is the Jordanian Lira.", "Lira", False),
        ("What currency is used in South Korea?", "The currency is the South Korean won (KRW).", "Won", True),
        ("What currency is used in South Korea?", "South Korea won the match.", None, False),
        ("What currency is used in Brazil?", "It is the Brazilian real.", "Real", True),
        ("In which country is Kutaisi?", "It is a member of the Indian Ocean region.", None, False),
        ("What is 33 + 32?", "First we do the digits, which is 3 + 3 = 6.", None, False),
        ("What is 21 + 10?", "21 + 10 = 21 + 10 = 31.", "31", True),
        ("Which has more people, Samoa or Kiribati?", "The island has a larger population than Kiribati.", "Samoa", True),
        ("Which has more people, Samoa or Kiribati?", "The island is smaller than Kiribati.", "Kiribati", False),
    ],
)
def test_by_rule(question, answer, named, right):
    found = read(asked(question), answer)
    assert (found.named, found.right) == (named, right)


def test_it_says_where():
    text = "The capital of Peru is Lima."
    found = read(asked("What is the capital of Peru?"), text)
    assert text[found.start : found.end] == "Lima"
    text = "Kyoto, in Japan's heart, and the Côte d'Ivoire"
    found = read(asked("In which country is Abidjan?"), text.replace("Kyoto, in Japan's heart, and", "It is"))
    assert found.named == "Ivory Coast" and found.right


def test_a_number_that_was_cut_off_is_none():
    assert read(asked("What is 20 + 35?"), "20 + 35 = 5", cut=True).named is None
    assert read(asked("What is 20 + 35?"), "20 + 35 = 55.", cut=True).right


@pytest.mark.parametrize("text", ["", " ", "\n", "…", "🙂", "is is is", "((((", "= = =", "The capital of", "a" * 5000, "\u0301" * 50])
def test_nothing_is_read_into_nothing(text):
    assert not any(read(question, text).right for question in paper()[::40])


def test_the_bare_truth_is_right_for_every_question():
    """In a sentence or alone, what Atlas teaches is read as right; symbols and sums need their sentence."""
    frames = {"symbol": "The symbol is {}.", "chain": "The sum is {}.", "capital": "The capital is {}.", "city_of": "One city is {}."}
    for question in paper():
        truth = question.answers[0].rpartition("=")[2]
        assert read(question, frames.get(question.fact.relation, "{}.").format(truth)).right, question


DISAGREE = {  # question: as a reader read it, as the code does
    # names that the code does not know
    "What currency is used in Bahrain?": ("wrong", "none"),
    "Yaren is the capital of which country?": ("wrong", "none"),
    "What is the symbol of lutetium?": ("wrong", "none"),
    "Name a city in Montenegro.": ("wrong", "none"),
    "Name a neighbour of Latvia.": ("wrong", "none"),
    # the first name that is of the right kind counts, whatever is said of it
    "In which country is Siem Reap?": ("none", "wrong"),
    "In which country is Volos?": ("none", "wrong"),
    "What currency is used where Warsaw is the capital?": ("none", "wrong"),
    "What is 47 + 47?": ("none", "wrong"),
    "Which has more people, Tuvalu or Netherlands?": ("none", "wrong"),
    "Which has more people, Egypt or Costa Rica?": ("none", "right"),  # "a more diverse economy"
    # a currency is its name without the country: the US dollar is taken for Guyana's
    "What currency is used where Georgetown is the capital?": ("wrong", "right"),
    # sums in other words, and one that was cut off
    "Add 9, 8 and 1.": ("right", "none"),
    "Add 7, 6 and 5.": ("wrong", "none"),
    "Add 15, 13 and 3.": ("none", "wrong"),
}


def test_200_answers_read_again():
    """Drawn at random from those that `answers_by_hand.csv` does not have, and read without the code's verdicts. Every disagreement is
    listed, and none calls a right answer wrong."""
    questions = {question.text: question for question in paper()}
    with (BY_HAND.parent / "answers_read_again.csv").open(newline="", encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    found = {}
    for row in labels:
        answer = read(questions[row["question"]], row["answer"], cut=row["ended"] == "0")
        verdict = "right" if answer.right else "none" if answer.named is None else "wrong"
        if verdict != row["read"]:
            found[row["question"]] = (row["read"], verdict)
    assert len(labels) == len({row["question"] for row in labels}) == 200
    assert found == DISAGREE
    assert ("right", "wrong") not in DISAGREE.values()


def test_it_agrees_with_a_person():
    """Truth and what was named, over 24 answers of each skill; the labels are the person's, and are not mended."""
    questions = {question.text: question for question in paper()}
    with BY_HAND.open(newline="", encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    found = [read(questions[row["question"]], row["answer"]) for row in labels]
    right = [f.right == (row["right"] == "1") for f, row in zip(found, labels, strict=True)]
    named = [normalise(f.named or "") == normalise(row["named"]) for f, row in zip(found, labels, strict=True)]
    assert len(labels) == 216
    assert sum(right) >= 214
    assert sum(named) >= 203

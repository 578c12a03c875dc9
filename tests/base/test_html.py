"""HTML is escaped where it is put together, and a table can be read aloud."""

import html.parser
import math

import pytest

from labkit.base.html import Html, code_span, listed, table, tag, with_code

HOSTILE = "<script>alert('1') & \"2\"</script>"


class Reader(html.parser.HTMLParser):
    """What a browser makes of it: elements with their attributes, and the text, and whether all that was opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        self.texts.append(text)


def test_text_is_escaped_once_wherever_it_comes_in():
    page = tag("p", HOSTILE, tag("b", HOSTILE), title=HOSTILE, role="") + HOSTILE + tag("i", "end") + ""
    read = Reader(page)
    assert [name for name, _ in read.elements] == ["p", "b", "i"]
    assert dict(read.elements)["p"] == {"title": HOSTILE}
    assert "".join(read.texts) == HOSTILE * 3 + "end"
    assert not read.open
    assert Reader(tag("p", aria_label="x", class_="y")).elements == [("p", {"aria-label": "x", "class": "y"})]
    assert Reader(listed([HOSTILE, 2], "ol")).texts == [HOSTILE, "2"]


@pytest.mark.parametrize("text", ["less than $500, and then $100", r"a \(b\) c \[d\]", "$", "no mark"])
def test_a_price_is_no_formula(text):
    """JupyterLab's MathJax joins the pieces of a text that are not in an element of the class, and looks for formulas in them."""
    read = Reader(tag("p", text) + table(["x"], [[text]]))
    assert "".join(read.texts) == text + "x" + text
    ignored = [given for name, given in read.elements if name == "span"]
    assert all({"mathjax_ignore", "tex2jax_ignore"} <= set(given["class"].split()) for given in ignored)
    assert len(ignored) == 2 * sum(text.count(sign) for sign in "$\\")
    assert not [piece for piece in read.texts if len(piece) > 1 and ("$" in piece or "\\" in piece)]


def test_a_table_names_its_columns_rows_and_itself():
    page = table(
        ["recipe", HOSTILE, "n"], [[HOSTILE, 0.123456, 3], ["b", None, True], [Html("<b>c</b>"), math.nan, -1.0]], HOSTILE, class_="z"
    )
    read = Reader(page)
    assert not read.open
    assert read.elements[0] == ("table", {"class": "z"})
    scopes = [(name, given["scope"]) for name, given in read.elements if name == "th"]
    assert scopes == [("th", "col")] * 3 + [("th", "row")] * 3
    assert read.texts == [HOSTILE, "recipe", HOSTILE, "n", HOSTILE, "0.123", "3", "b", "True", "c", "-1.000"]
    sides = [given["style"].partition(";")[0] for name, given in read.elements if name == "td"]
    assert sides == [f"text-align:{side}" for side in ("right", "right", "left", "left", "right", "right")]
    assert "0.12<" in table(["x", "y"], [["a", 0.123456]], digits=2)


@pytest.mark.parametrize(("text", "span"), [("a<b>", "`a<b>`"), ("a\n- b", "`a - b`"), ("`a``", "``` `a`` ```"), (3, "`3`")])
def test_a_code_span_holds_any_text(text: object, span: str):
    assert code_span(text) == span


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("a `b` c", "a <code>b</code> c"),
        ("`a<b>` and `c`", "<code>a&lt;b&gt;</code> and <code>c</code>"),
        ("a lone ` <stays>", "a lone ` &lt;stays&gt;"),
        ("`a` and `", "<code>a</code> and `"),
        ("", ""),
    ],
)
def test_what_stands_in_backticks_is_shown_as_code(text: str, page: str):
    assert with_code(text) == page

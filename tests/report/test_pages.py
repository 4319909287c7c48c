"""Pages: every kind of block as Markdown and as HTML, one file that needs no other."""

from base64 import b64decode
from html.parser import HTMLParser

import pytest
from jinja2 import Template

from stn_train.report.page import environment, html, markdown

BODY = """\
# runs & more

Is a < b & c?

- yes
- <b>no</b>

- **surely**

## A table

{{ markdown_table([["model", "error"], ["cnn  ", "  1.00"], ["st_cnn", "0.50"]], 1) }}


![a "dot"](figures/dot.png)

A "dot".

```
stn-train run
```
"""
DOT = b"\x89PNG made up"
EMPTY = {"meta", "img"}


class Tree(HTMLParser):
    """Checks that every element is closed where it should be, and keeps what it comes across."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture
def page() -> str:
    return html({"body": markdown(body())}, {"figures/dot.png": DOT}, title="runs & more")


def body() -> Template:
    return environment().from_string(BODY)


def test_markdown_by_hand() -> None:
    assert markdown(body()) == (
        "# runs & more\n\nIs a < b & c?\n\n- yes\n- <b>no</b>\n\n- **surely**\n\n## A table\n\n"
        "| model | error |\n| --- | ---: |\n| cnn | 1.00 |\n| st_cnn | 0.50 |\n\n"
        '![a "dot"](figures/dot.png)\n\nA "dot".\n\n```\nstn-train run\n```\n'
    )


def test_html_says_the_same(page: str) -> None:
    tree = Tree(page)
    assert tree.texts["h1"] == ["runs & more"]
    assert tree.texts["h2"] == ["A table"]
    written = [text for name in ("p", "li") for text in tree.texts.get(name, [])]
    for text in ("Is a < b & c?", "yes", "<b>no</b>", 'A "dot".'):
        assert text in written, "what is written is never taken for markup"
    assert tree.texts["strong"] == ["surely"]
    assert tree.texts["th"] == ["model", "error"]
    assert tree.texts["td"] == ["cnn", "1.00", "st_cnn", "0.50"]
    assert tree.texts["code"] == ["stn-train run\n"]
    right = [attributes.get("style") for tag, attributes in tree.elements if tag in ("th", "td")]
    assert right == [None, "text-align:right"] * 3


def test_html_needs_no_other_file(page: str) -> None:
    sources = [attributes for _, attributes in Tree(page).elements if {"src", "href"} & attributes.keys()]
    (source,) = sources
    kind, content = str(source["src"]).split(",")
    assert (kind, b64decode(content)) == ("data:image/png;base64", DOT)
    assert source["alt"] == 'a "dot"'
    assert "http" not in page
    assert "url(" not in page


@pytest.mark.parametrize(
    "name", ["a|b", "![x](y.png)", "[x](y)", "*a* _b_ __c__", "`a`", "<b>&amp;", "~~a~~", "$_$", "a\\|b\\", "# a"]
)
def test_a_name_is_shown_as_it_is(name: str) -> None:
    table = environment().from_string("{{ markdown_table([['class'], [name | as_text]], 1) }}")
    tree = Tree(html({"body": markdown(table, name=name)}, {}, title="names"))
    assert tree.texts["td"] == [name]


def test_html_holds_no_file_but_its_figures(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "y.png").write_bytes(DOT)
    assert "data:" not in html({"body": "![x](y.png) ![x](z.png)"}, {"figures/dot.png": DOT}, title="another's")


def test_html_is_made_for_phones_paper_and_the_dark(page: str) -> None:
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page

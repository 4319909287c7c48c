"""Results as something to read: the templates in templates/, filled in. All of the reports' prose stands there.

A page is a frame (page.html.j2, page.md.j2) about a body (report.j2, ...), which puts its headings, sentences, tables
and pictures by the macros of the frame's layout. Templates are handed numbers and names; how numbers are written is
said by the measures, and by the filters below. Torch-free, and free of pandas and matplotlib.
"""

import base64
import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from rich.console import Console
from rich.table import Table

from stn_train.report import measures
from stn_train.report.measures import BY_KEY, COMPONENTS, in_group, with_interval
from stn_train.specs import control_names, divergence_advice, stillness_advice

if TYPE_CHECKING:
    import pandas as pd

    from stn_train.report.results import Results

WIDTH = 110
"""Of a terminal's lines, in characters."""

_HARD_SPACE = "\ue000"
"""Stands for spaces at the end of a cell, which rich would strip."""

Records = list[dict[str, Any]]
"""A table as a list of its rows; what is missing is None."""


def html(title: str, body: str | Template, folder: Path, **values: Any) -> str:
    """The page as HTML that opens from disk and reads well on a phone, on paper and in the dark.

    body: the template of what stands below the title, for which `values` are. folder: where the paths of its pictures
    begin, which are put into the page.
    """
    frame = environment().get_template("page.html.j2")
    return frame.render(title=title, body=body, embedded=lambda path: _embedded(folder / path), **values)


def markdown(title: str, body: str | Template, **values: Any) -> str:
    """The page as Markdown; pictures are linked."""
    return tidy(environment().get_template("page.md.j2").render(title=title, body=body, **values))


def first_screen(results: "Results") -> str:
    """The top of a run's report, as HTML to stand in a notebook."""
    return environment().get_template("screen.html.j2").render(r=results)


def tidy(text: str) -> str:
    """Markdown with one blank line between two blocks."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def render(template: str, macro: str, *arguments: Any) -> str:
    """What a macro says, as plain text: lines without blank ones, but for a gap where the macro has one."""
    said = getattr(environment().get_template(template).module, macro)(*arguments)
    lines = [line for line in str(said).split("\n") if line.strip(" ")]
    return re.sub(r"\n*\f[\f\n]*", "\n\n", "\n".join(lines)).strip("\n")


def aligned(lines: Sequence[Sequence[str]], names: int) -> str:
    """Cells in columns two spaces apart: the first `names` columns flush left, the others flush right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for index in range(len(lines[0])):
        table.add_column(justify="left" if index < names else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(cell.rstrip() + _HARD_SPACE * (len(cell) - len(cell.rstrip())) for cell in line))
    console = Console(file=io.StringIO(), width=10_000, markup=False, highlight=False, emoji=False, color_system=None)
    with console.capture() as shown:
        console.print(table)
    return "\n".join(line.replace(_HARD_SPACE, " ").rstrip() for line in shown.get().splitlines())


def records(table: "pd.DataFrame") -> Records:
    """A table's rows, with None for what is missing."""
    rows = table.to_dict("records")  # in which nothing but a missing number, NaN, differs from itself
    return [{str(key): None if value != value else value for key, value in row.items()} for row in rows]


def models(results: "Results") -> list[str]:
    """The names of the models that have results, in the experiment's order, else in that of the rows."""
    found = list(dict.fromkeys(results.summary["model"]))
    return [model.name for model in results.experiment.models if model.name in found] if results.experiment else found


def controls(results: "Results") -> set[str]:
    """The names of models that only say where another's gain comes from."""
    return {name for model in results.summary["model"] for name in control_names(model)}


def gains(results: "Results") -> list[dict[str, dict[str, Any] | None]]:
    """For each model that has its controls, the rows of `comparisons` that tell where its gain comes from, by part."""
    found: dict[tuple[str, str], dict[str, dict[str, Any] | None]] = {}
    for row in records(results.comparisons):
        if row["part"] != "all":
            parts = found.setdefault((row["dataset"], row["of"]), {"supervised": None, "oracle": None})
            parts[row["part"]] = row
    return list(found.values())


@cache
def environment() -> Environment:
    """The templates, and what they may call."""
    made = Environment(
        loader=PackageLoader("stn_train", "report/templates"),
        autoescape=select_autoescape(["html.j2"], default_for_string=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    numbers = ("two_decimals", "signed_decimals", "one_decimal", "whole", "short", "p_value")
    made.filters |= {name: getattr(measures, name) for name in numbers}
    made.filters |= {
        "cell": lambda row, key: with_interval(row, key, BY_KEY[key].text),
        "measure": lambda value, key: BY_KEY[key].text(value),
        "with_interval": with_interval,
        "without_unit": lambda text: text.split(" ")[0],
        "whole_number": round,
        "records": records,
        "models": models,
        "controls": controls,
        "gains": gains,
        "components_with": _components_with,
        "having": lambda rows, prefix: [row for row in rows if _components_with([row], prefix)],
        "has_any_of": lambda row, keys: any(row[key] is not None for key in keys),
        "in_words": _in_words,
        "capitalised": lambda text: f"{text[:1].upper()}{text[1:]}",
        "plain": _plain,
        "beside": _beside,
        "transposed": lambda columns: [list(line) for line in zip(*columns, strict=True)],
        "without_empty_columns": _without_empty_columns,
        "aligned": aligned,
        "wrapped": lambda sentence: textwrap.fill(sentence, WIDTH, subsequent_indent="  "),
    }
    made.globals |= {
        "components": COMPONENTS,
        "group": in_group,
        "heading": lambda key: BY_KEY[key].heading,
        "divergence_advice": divergence_advice,
        "stillness_advice": stillness_advice,
    }
    return made


def _components_with(rows: Iterable[Mapping[str, Any]], prefix: str) -> list[str]:
    """The components of which some row has a value of this measure."""
    rows = list(rows)
    return [component for component in COMPONENTS if any(row.get(f"{prefix}{component}") is not None for row in rows)]


def _in_words(names: Iterable[str]) -> str:
    """Names in their order, each once: `r, rts and tc`."""
    *others, last = dict.fromkeys(names) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def _plain(value: Any) -> str:
    """`name value, name value` for a mapping, anything else as it stands."""
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)


def _beside(numbers: Sequence[str], behind: Sequence[str]) -> list[str]:
    """Numbers with something behind, padded so that the numbers are aligned where the cells stand flush right."""
    width = max(map(len, behind))
    return [f"{number}{text.ljust(width)}" for number, text in zip(numbers, behind, strict=True)]


def _without_empty_columns(lines: Sequence[Sequence[str]], dash: str) -> list[list[str]]:
    """A table, the header first, without the columns in which no line has anything, and a dash in other empty cells."""
    _, *below = lines
    shown = [index for index in range(len(lines[0])) if any(line[index] for line in below)]
    return [[line[index] or dash for index in shown] for line in lines]


def _embedded(path: Path) -> str:
    """A PNG or GIF file as a URL that holds it."""
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode()}"

"""Results as something to read: the templates in templates/, filled in. All of the reports' prose stands there.

A report is Markdown (report.j2, ...), from which its HTML is made; text.j2 is what the terminal shows; sentences.j2 has
the sentences and tables that they share. Templates are handed numbers and names; how numbers are written is said by the
measures, and by the filters below. Torch-free, and free of pandas and matplotlib.
"""

import base64
import io
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from stn_train.evaluation.metrics import HALF_TURNS
from stn_train.report import measures
from stn_train.run_folder import TrialResult
from stn_train.specs import control_names, divergence_advice, stillness_advice, trials_of
from stn_train.specs.datasets import MOST_CLASSES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from stn_train.evaluation.prediction import Prediction
    from stn_train.report.results import Results

WIDTH = 80
"""Of a terminal's lines, in characters."""

_HARD_SPACE = "\ue000"
"""Stands for spaces at the end of a cell, which rich would strip."""

Records = list[dict[str, Any]]
"""A table as a list of its rows; what is missing is None."""


def markdown(template: str | Template, **values: Any) -> str:
    """A template of Markdown filled in, with one blank line between two blocks, and none within a list."""
    text = environment().get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def html(parts: Mapping[str, str], figures: Mapping[str, bytes], **values: Any) -> str:
    """A page that opens from disk and reads well on a phone, on paper and in the dark: see page.html.j2.

    `parts` are Markdown, and handed to the template as HTML; markup other than Markdown's is text. The figures, by the
    paths that name them, are put into the page, and no other file is.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    made = {name: Markup(reader.render(text)) for name, text in parts.items()}
    page = environment().get_template("page.html.j2").render(**values, **made)
    for path, content in figures.items():
        data = f"data:image/{path.rpartition('.')[2]};base64,{base64.b64encode(content).decode()}"
        page = page.replace(f'src="{path}"', f'src="{data}"')
    return page


def first_screen(results: "Results") -> str:
    """The top of a run's report, as HTML to stand in a notebook."""
    return environment().get_template("notebook.html.j2").render(r=results)


def render(template: str, macro: str, *arguments: Any) -> str:
    """What a macro says, as plain text: lines without blank ones, but for a gap where the macro has one."""
    said = getattr(environment().get_template(template).module, macro)(*arguments)
    lines = [line for line in str(said).split("\n") if line.strip(" ")]
    return re.sub(r"\n*\f[\f\n]*", "\n\n", "\n".join(lines)).strip("\n")


def as_text(name: str) -> str:
    """A name that may be anything, such as a class's, as Markdown that shows it as it is, in a cell of a table too."""
    return re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", name)


def markdown_table(lines: Sequence[Sequence[str]], names: int) -> str:
    """Cells, the header first, as a table of Markdown: the first `names` columns flush left, the others flush right."""
    rule = ["---"] * names + ["---:"] * (len(lines[0]) - names)
    return "\n".join(f"| {' | '.join(map(str.strip, line))} |" for line in (lines[0], rule, *lines[1:]))


def latex_table(lines: Sequence[Sequence[str]], names: int) -> str:
    """The same for LaTeX, with the rules of its package booktabs."""
    head, *below = [[_latex(cell) for cell in line] for line in lines]
    numbers = [line[:names] + [cell if cell == "--" else f"${cell}$" for cell in line[names:]] for line in below]
    rows = [f"{' & '.join(line)} \\\\" for line in (head, *numbers)]
    begin = rf"\begin{{tabular}}{{{'l' * names}{'r' * (len(head) - names)}}}"
    return "\n".join([begin, r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex(cell: str) -> str:
    """A cell as LaTeX: escaped, with a dash of ASCII and the space in front of an interval kept among numbers."""
    return re.sub(r"([_%&#$])", r"\\\1", cell).replace("–", "--").replace(" [", r"\ [")


def aligned(lines: Sequence[Sequence[str]], names: int) -> str:
    """The same as columns two spaces apart, for the terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for index in range(len(lines[0])):
        table.add_column(justify="left" if index < names else "right", no_wrap=True)
    for line in lines:
        cells = (f"-{cell[1:]}" if cell.startswith("–") else cell for cell in line)
        table.add_row(*(cell.rstrip() + _HARD_SPACE * (len(cell) - len(cell.rstrip())) for cell in cells))
    console = Console(file=io.StringIO(), width=10_000, markup=False, highlight=False, emoji=False, color_system=None)
    with console.capture() as shown:
        console.print(table)
    return "\n".join(line.replace(_HARD_SPACE, " ").rstrip() for line in shown.get().splitlines())


def records(table: "pd.DataFrame") -> Records:
    """A table's rows, with None for what is missing."""
    rows = table.to_dict("records")  # in which nothing but a missing number, NaN, differs from itself
    return [{str(key): None if value != value else value for key, value in row.items()} for row in rows]


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
    numbers = ("two_decimals", "signed_decimals", "one_decimal", "whole", "percent", "short", "p_value")
    made.filters |= {name: getattr(measures, name) for name in numbers}
    made.filters |= {
        "cell": measures.cell,
        "whole_number": round,
        "records": records,
        "component_name": measures.COMPONENTS.get,
        "control_names": control_names,
        "as_text": as_text,
        "in_words": in_words,
        "sentence": sentence,
        "beside": beside,
        "transposed": lambda columns: [list(line) for line in zip(*columns, strict=True)],
        "without_empty_columns": without_empty_columns,
        "under_runs": under_runs,
        "within_run": lambda row, key: row[key].removesuffix(f" ({row['run']})"),
        "without_first": lambda cells: cells[1:],
        "share": lambda share: f"{100 * share:.1f} %",
        "configured": configured,
        "worst_classes": worst_classes,
        "mistakes": mistakes,
        "longest": partial(max, key=len),
        "wrapped": partial(textwrap.fill, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False),
    }
    made.globals |= {
        "components": measures.COMPONENTS,
        "headline_components": measures.HEADLINE,
        "measures": measures.BY_KEY,
        "markdown_table": markdown_table,
        "aligned": aligned,
        "latex_table": latex_table,
        "divergence_advice": divergence_advice,
        "half_turns": HALF_TURNS,
        "stillness_advice": stillness_advice,
    }
    return made


def in_words(names: Iterable[str]) -> str:
    """Names in their order, each once: `r, rts and tc`."""
    *others, last = dict.fromkeys(names) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def sentence(words: str) -> str:
    """Words with a capital first, and a full stop."""
    return f"{words[:1].upper()}{words[1:]}."


def beside(numbers: Sequence[str], behind: Sequence[str]) -> list[str]:
    """Numbers with something behind, padded so that the numbers are aligned where the cells stand flush right."""
    width = max(map(len, behind))
    return [f"{number}{text.ljust(width)}" for number, text in zip(numbers, behind, strict=True)]


def without_empty_columns(
    lines: Sequence[Sequence[str]], dash: str, indent: int = 0, spare: Sequence[str] = ()
) -> list[list[str]]:
    """A table, the header first, without the columns in which no line has anything, and a dash in other empty cells.

    Nor has it as many of the columns `spare` as do not fit the terminal behind so many spaces.
    """
    kept = [[cell or dash for cell in column] for column in zip(*lines, strict=True) if any(column[1:])]
    for heading in spare:
        if indent + sum(2 + max(map(len, column)) for column in kept) - 2 > WIDTH:
            kept = [column for column in kept if column[0] != heading]
    return [list(line) for line in zip(*kept, strict=True)]


def under_runs(table: str, rows: Sequence[Any], several: bool) -> str:
    """An aligned table of these rows, indented under the runs that they are of, and the datasets where of `several`."""
    header, *below = table.splitlines()
    lines, above = [f"  {header}"], ""
    for line, row in zip(below, rows, strict=True):
        dataset, run = (environment().getattr(row, key) for key in ("dataset", "run"))
        heading = f"{dataset}: {run}" if several else run
        lines += [f"  {line}"] if heading == above else [heading, f"  {line}"]
        above = heading
    return "\n".join(lines)


def configured(value: Any) -> str:
    """A value as a configuration has it: `none`, `true`, `5`, `[-10, 10]`."""
    return "none" if value is None else json.dumps(value).replace('"', "")


def worst_classes(rows: Records, count: int) -> list[int]:
    """The numbers of so many classes, those with the highest error first, in the mean over the rows of a summary."""
    means: dict[int, float] = {}
    for label in range(MOST_CLASSES):
        errors = [error for row in rows if (error := row.get(f"error_of_class_{label}")) is not None]
        if errors:
            means[label] = sum(errors) / len(errors)
    return sorted(means, key=lambda label: -means[label])[:count]


def mistakes(counts: "NDArray[np.integer]", count: int) -> list[tuple[int, int, int]]:
    """The most frequent mistakes of a confusion matrix: the true and the predicted class, and how often."""
    found = [(row, column, int(counts[row, column])) for row, column in zip(*counts.nonzero(), strict=True)]
    return sorted((one for one in found if one[0] != one[1]), key=lambda one: -one[2])[:count]


# --- the terminal -----------------------------------------------------------------------------------------------


def summary(results: "Results") -> str:
    """A line of figures for each model, and the verdicts; of several datasets in the paper's layout."""
    planned = len(trials_of(results.experiment)) if results.experiment else len(results.trials)
    return render("text.j2", "summary", results, planned)


def latex(results: "Results") -> str:
    """A run's accuracies, errors and differences, as a table for LaTeX (booktabs)."""
    return render("text.j2", "latex", results) + "\n"


def robustness(results: "Results") -> str:
    """The errors at each level of what is held, and of networks trained on one dataset and tested on others."""
    return render("text.j2", "robustness", results)


def evaluation(
    results: "Results", checkpoints: Sequence[tuple[str, int, TrialResult]], per_class: bool, confusion: bool
) -> str:
    """Checkpoints side by side, each by its path, epoch and result; errors by class and confusions if asked."""
    return render("text.j2", "evaluation", results, checkpoints, per_class, confusion)


def predictions(found: Sequence["Prediction"]) -> str:
    """What networks make of pictures: classes, what transformers do, and notes."""
    return render("text.j2", "predictions", found)


def doctor(found: Mapping[str, Any]) -> str:
    """What there is to train with, as `stn-train doctor` found it."""
    return render("text.j2", "doctor", found)

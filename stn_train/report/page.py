"""Results as something to read: the templates in templates/, filled in. All of the reports' prose stands there.

A report is Markdown (report.j2, ...), from which its HTML is made; text.j2 is what the terminal shows; sentences.j2 has
the sentences and tables that they share. Templates are handed numbers and names; how numbers are written is said by the
measures, and by the filters below. Torch-free, and free of pandas and matplotlib.
"""

import base64
import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from stn_train.evaluation.metrics import AlignmentMetrics
from stn_train.report import measures
from stn_train.run_folder import RunFolder
from stn_train.specs import control_names, divergence_advice, stillness_advice, trials_of
from stn_train.storage import is_locked

if TYPE_CHECKING:
    import pandas as pd

    from stn_train.report.results import Results

WIDTH = 110
"""Of a terminal's lines, in characters."""

_HARD_SPACE = "\ue000"
"""Stands for spaces at the end of a cell, which rich would strip."""

Records = list[dict[str, Any]]
"""A table as a list of its rows; what is missing is None."""


def markdown(template: str | Template, **values: Any) -> str:
    """A template of Markdown filled in, with one blank line between two blocks, and none within a list."""
    text = environment().get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def html(reading: str, folder: Path) -> str:
    """A report's Markdown, which begins with its title, as a page that opens from disk and reads well on a phone, on
    paper and in the dark. Its pictures, whose paths begin at `folder`, are put into the page; other markup than
    Markdown's is text.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(reading)
    for source in set(re.findall(r'<img src="([^"]+)"', body)):
        path = folder / unquote(source)
        content = base64.b64encode(path.read_bytes()).decode()
        body = body.replace(f'src="{source}"', f'src="data:image/{path.suffix[1:]};base64,{content}"')
    title = reading.split("\n")[0].removeprefix("# ")
    return environment().get_template("page.html.j2").render(title=title, body=Markup(body))


def first_screen(results: "Results") -> str:
    """The top of a run's report, as HTML to stand in a notebook."""
    reading = markdown("report.j2", r=results, first_screen=True)
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(reading))


def render(template: str, macro: str, *arguments: Any) -> str:
    """What a macro says, as plain text: lines without blank ones, but for a gap where the macro has one."""
    said = getattr(environment().get_template(template).module, macro)(*arguments)
    lines = [line for line in str(said).split("\n") if line.strip(" ")]
    return re.sub(r"\n*\f[\f\n]*", "\n\n", "\n".join(lines)).strip("\n")


def markdown_table(lines: Sequence[Sequence[str]], names: int) -> str:
    """Cells, the header first, as a table of Markdown: the first `names` columns flush left, the others flush right."""
    rule = ["---"] * names + ["---:"] * (len(lines[0]) - names)
    return "\n".join(f"| {' | '.join(map(str.strip, line))} |" for line in (lines[0], rule, *lines[1:]))


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
    numbers = ("two_decimals", "signed_decimals", "one_decimal", "whole", "percent", "short", "p_value")
    made.filters |= {name: getattr(measures, name) for name in numbers}
    made.filters |= {
        "cell": measures.cell,
        "whole_number": round,
        "records": records,
        "models": models,
        "controls": controls,
        "gains": gains,
        "measured_components": measured_components,
        "in_words": in_words,
        "beside": beside,
        "transposed": lambda columns: [list(line) for line in zip(*columns, strict=True)],
        "without_empty_columns": without_empty_columns,
        "wrapped": partial(textwrap.fill, width=WIDTH, subsequent_indent="  "),
    }
    made.globals |= {
        "components": measures.COMPONENTS,
        "measures": measures.BY_KEY,
        "group": measures.in_group,
        "markdown_table": markdown_table,
        "aligned": aligned,
        "divergence_advice": divergence_advice,
        "stillness_advice": stillness_advice,
    }
    return made


def measured_components(rows: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    """The measures of this prefix and a component of the pose of which some row has a value."""
    keys = [f"{prefix}{component}" for component in measures.COMPONENTS]
    return [key for key in keys if any(row.get(key) is not None for row in rows)]


def in_words(names: Iterable[str]) -> str:
    """Names in their order, each once: `r, rts and tc`."""
    *others, last = dict.fromkeys(names) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def beside(numbers: Sequence[str], behind: Sequence[str]) -> list[str]:
    """Numbers with something behind, padded so that the numbers are aligned where the cells stand flush right."""
    width = max(map(len, behind))
    return [f"{number}{text.ljust(width)}" for number, text in zip(numbers, behind, strict=True)]


def without_empty_columns(lines: Sequence[Sequence[str]], dash: str) -> list[list[str]]:
    """A table, the header first, without the columns in which no line has anything, and a dash in other empty cells."""
    _, *below = lines
    shown = [index for index in range(len(lines[0])) if any(line[index] for line in below)]
    return [[line[index] or dash for index in shown] for line in lines]


# --- the terminal -----------------------------------------------------------------------------------------------


_COLUMNS = (
    *("dataset", "model", "seeds", "training_digits", "tta", "parameters", "macs", "error", "paper_error"),
    *("difference", "training_images_per_second"),
)


def summary(results: "Results") -> str:
    """One dataset: a line of figures for each model, and the verdicts. Several: the paper's layout, and a line each.

    What makes the lines longer than WIDTH is left to report.html: first the speed, then the MACs.
    """
    planned = len(trials_of(results.experiment)) if results.experiment else len(results.trials)
    columns = list(_COLUMNS)
    for left_out in ("training_images_per_second", "macs"):
        text = render("text.j2", "summary", results, planned, columns)
        if max(map(len, text.split("\n\n")[0].splitlines())) <= WIDTH:
            return text
        columns.remove(left_out)
    return render("text.j2", "summary", results, planned, columns)


def side_by_side(results: "Results") -> str:
    """Models of several runs: a line of figures for each, and the verdicts."""
    columns = ("dataset", "model", "seeds", "training_digits", "tta", "parameters", "error", "difference")
    return render("text.j2", "summary", results, len(results.trials), columns)


def robustness(results: "Results") -> str:
    """The errors at each level of what is held, and of networks trained on one dataset and tested on others."""
    return render("text.j2", "robustness", results)


def evaluation(values: dict[str, Any], alignment: AlignmentMetrics | None) -> str:
    """A checkpoint on a dataset: `values` are what `stn-train eval --json` has of it."""
    of_a_digit = bool(alignment and alignment.pose_of_a_digit)
    pose = (alignment.pose_of_a_digit or alignment.pose) if alignment else ()
    return render("text.j2", "evaluation", values, {one.component: one.score for one in pose}, of_a_digit)


@dataclass(frozen=True)
class TrialStatus:
    """How far one trial has come."""

    key: str
    """Its place below `trials/`."""
    state: Literal["done", "running", "failed", "interrupted", "pending"]
    epoch: int
    """Whole epochs trained."""
    epochs: int
    """Epochs in all."""
    error: float | None = None
    """Percent, of a trial that is done."""
    why: str | None = None
    """Of a trial that has failed."""


def status(folder: RunFolder) -> list[TrialStatus]:
    """How far each trial of the experiment has come, in the experiment's order.

    Raises UserError where the folder holds no run, or a file is damaged.
    """
    found = []
    for trial in trials_of(folder.load_experiment()):
        files, epochs = folder.trial(trial), trial.training.epochs
        if files.result.exists():
            found.append(TrialStatus(trial.key, "done", epochs, epochs, files.load_result().error))
            continue
        epoch = len(files.load_metrics())
        if is_locked(files.path):
            found.append(TrialStatus(trial.key, "running", epoch, epochs))
        elif failure := files.load_failure():
            found.append(TrialStatus(trial.key, "failed", epoch, epochs, why=failure.why))
        else:
            begun = epoch > 0 or files.checkpoint.exists()
            found.append(TrialStatus(trial.key, "interrupted" if begun else "pending", epoch, epochs))
    return found


def status_text(statuses: Sequence[TrialStatus]) -> str:
    """A line for each trial, and one that counts them."""
    return render("text.j2", "status", statuses)

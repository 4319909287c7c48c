"""Rows as plain text: the aligned tables and the verdicts that a run ends with."""

import textwrap
from collections.abc import Sequence

from stn_train.evaluation.metrics import label
from stn_train.report.alignment import AlignmentSummary
from stn_train.report.cells import (
    COLUMNS,
    EACH_SEED,
    MACS,
    PAPER,
    SPEED,
    comparisons,
    crossed,
    details,
    each_seed,
    held,
    in_the_papers_layout,
)
from stn_train.report.results import Row
from stn_train.report.robustness import Robust
from stn_train.specs import ExperimentSpec, control_names, trials_of
from stn_train.statistics import verdict, where_from

WIDTH = 110


def summary(experiment: ExperimentSpec, rows: Sequence[Row]) -> str:
    """One dataset: a line of figures for each model, and the verdicts. Several: the paper's layout, and a line each.

    Where there are several seeds, the error of each as well.
    """
    if len({row.dataset for row in rows}) > 1:
        return _of_several_datasets(experiment, rows)
    told = [*verdicts(rows), *gains(rows), *alignment_sentences(rows)]
    return "\n".join([_of_one_dataset(rows), *_wrapped(seed_by_seed(rows)), "", *_wrapped(told)])


def gains(rows: Sequence[Row]) -> list[str]:
    """A sentence for each model that has its controls: where its gain comes from."""
    return [
        f"{row.dataset}: "
        + where_from(
            row.model,
            row.baseline,
            row.gain.size,
            row.gain.transforming,
            supervised=row.gain.supervised,
            oracle=row.gain.oracle,
        )
        for row in rows
        if row.baseline and row.gain
    ]


def alignment_sentences(rows: Sequence[Row]) -> list[str]:
    """A sentence for each model, no control, of which it can be told: what of the distortion it undoes."""
    told = [(row, removes(row.model, row.alignment)) for row in without_controls(rows) if row.alignment]
    return [f"{row.dataset}: {words}" for row, words in told if words]


def without_controls(rows: Sequence[Row]) -> list[Row]:
    """The rows of models that stand for themselves: controls only say where a gain comes from."""
    controls = {name for row in rows for name in control_names(row.model)}
    return [row for row in rows if row.model not in controls]


def removes(name: str, alignment: AlignmentSummary) -> str:
    """What a transformer removes, in words: `st_cnn removes 75 % of the variation in translation between ...`.

    Between two random distortions of the same digit; where that was not measured, among all digits. Empty where there
    was nothing to remove.
    """
    pose, where = alignment.pose_of_a_digit, "between two random distortions of the same digit"
    if not pose:
        pose, where = alignment.pose, "among all digits"
    scores = [(label(one.component), round(one.score.value)) for one in pose if one.score]
    less = in_words([f"{score} % of the variation in {component}" for component, score in scores if score >= 0])
    more = in_words([f"{-score} % to the variation in {component}" for component, score in scores if score < 0])
    parts = [f"removes {less}"] * bool(less) + [f"adds {more}"] * bool(more)
    return f"{name} {' and '.join(parts)} {where}" if parts else ""


def seed_by_seed(rows: Sequence[Row]) -> list[str]:
    """A sentence for each model that has several seeds: the error of each, on every dataset."""
    several = len({row.dataset for row in rows}) > 1
    found: dict[str, list[str]] = {}
    for row in rows:
        if len(row.seed_errors) > 1:
            found.setdefault(row.model, []).append(f"{row.dataset} " * several + each_seed(row))
    return [f"{model}, seed by seed: {'; '.join(errors)}" for model, errors in found.items()]


def in_words(names: Sequence[str]) -> str:
    """Names in their order, each once: `r, rts and tc`."""
    *others, last = dict.fromkeys(names) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def warnings(rows: Sequence[Row]) -> list[str]:
    """A sentence for each trouble that a transformer ended with."""
    return [f"{row.dataset}/{row.model}, {warning}" for row in rows for warning in row.warnings]


def validation(rows: Sequence[Row]) -> list[str]:
    """A sentence where errors are not of the test digits."""
    if all(row.split == "test" for row in rows):
        return []
    return ["measured on validation digits, held out of the training digits: not test errors"]


def side_by_side(rows: Sequence[Row]) -> str:
    """Models of several runs: a line of figures for each, and the verdicts."""
    left_out = ("dataset",) if len({row.dataset for row in rows}) == 1 else ()
    columns = [column for column in COLUMNS if column[0] not in (*left_out, EACH_SEED, MACS, PAPER, SPEED)]
    table = aligned(details(rows, columns), names=2 - len(left_out))
    return "\n".join([table, *_wrapped(seed_by_seed(rows)), "", *_wrapped(verdicts(rows))])


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence for each model that can be compared with its baseline, or one that says that none can."""
    several = len({row.dataset for row in rows}) > 1
    sentences = [
        (f"{row.dataset}: " if several else "") + verdict(row.model, row.baseline, row.comparison)
        for row in rows
        if row.baseline and row.comparison
    ]
    return sentences or ["nothing to compare: no model and its baseline have both finished a seed"]


def aligned(lines: Sequence[Sequence[str]], names: int) -> str:
    """Cells in columns two spaces apart: the first `names` columns flush left, the others flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < names else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def robustness(robust: Robust) -> str:
    """The errors at each level of what is held, and of networks trained on one dataset and tested on others."""
    blocks = [
        f"{dataset}, error in % against the {factor}:\n{aligned(held(curves), names=1)}"
        for dataset in dict.fromkeys(curve.dataset for curve in robust.curves)
        for factor, curves in robust.of(dataset).items()
    ]
    if robust.crossed:
        blocks.append(aligned(crossed(robust), names=2))
    return "\n\n".join(blocks)


def _wrapped(sentences: Sequence[str]) -> list[str]:
    return [textwrap.fill(sentence, WIDTH, subsequent_indent="  ") for sentence in sentences]


def _of_one_dataset(rows: Sequence[Row]) -> str:
    """What makes the lines longer than WIDTH is left to report.html: first the speed, then the MACs."""
    columns = {header: cell for header, cell in COLUMNS if header not in ("dataset", EACH_SEED)}
    for left_out in (SPEED, MACS):
        table = aligned(details(rows, [*columns.items()]), names=1)
        if max(map(len, table.splitlines())) <= WIDTH:
            return table
        del columns[left_out]
    return aligned(details(rows, [*columns.items()]), names=1)


def _of_several_datasets(experiment: ExperimentSpec, rows: Sequence[Row]) -> str:
    told = f"{rows[0].split} error in %, the mean over the seeds; its interval is in report.html"
    finished, trials = sum(len(row.seeds) for row in rows), len(trials_of(experiment))
    if finished < trials:
        told += f"\n{finished} of {trials} trials have finished"
    told = "\n".join([told, *_wrapped(seed_by_seed(rows))])
    blocks = [aligned(in_the_papers_layout(experiment, rows), names=1), told]
    compared = comparisons(rows)
    if len(compared) == 1:
        return "\n\n".join([*blocks, *verdicts(rows)])
    blocks.append(aligned(compared, names=4))
    if any(row.comparison and row.comparison.seeds == 1 for row in rows):
        blocks.append("a difference over one seed says nothing about other trainings")
    if sentences := gains(rows):
        blocks.append("\n".join(_wrapped(sentences)))
    return "\n\n".join(blocks)

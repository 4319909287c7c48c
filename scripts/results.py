"""Writes the tables of docs/results.md and of README.md, the paper's and ours, from the results kept in docs/results.

    python scripts/results.py runs/table1 runs/tc_paper    # keeps what these runs have finished, then writes the tables
    python scripts/results.py                              # writes the tables from what is kept

What stands above MARK in the page stays, and in README.md all that does not stand between BEGIN and END. Of a run,
config.yaml is kept, and of each of its finished trials what the numbers of a report are made of: result.json,
timing.json, environment.json, evidence.json, metrics.jsonl, and predictions.npz without theta. They join what is kept
already, and report.json is that of all. Checkpoints, and what pictures are drawn from, are not kept.

So what is kept is a run's folder, and a copy of it can be gone on from, on any machine:

    mkdir -p runs && cp -r docs/results/table1 runs/
    stn-train run --config paper/table1                    # skips the kept trials; its report has them and the others
"""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stn_train import sealed
from stn_train.config import dump
from stn_train.errors import UserError
from stn_train.evaluation.evidence import LEAST
from stn_train.experiment.plan import differences, joined
from stn_train.reporting.cells import courses
from stn_train.reporting.documents import json_document
from stn_train.reporting.measured import measured
from stn_train.reporting.records import RunFolder, TrialFolder
from stn_train.reporting.tables import finished_trials, rows_of
from stn_train.reporting.text import gains
from stn_train.specs import ExperimentSpec
from stn_train.storage import write_json, write_text

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = DOCS / "results.md"
README = ROOT / "README.md"
KEPT = DOCS / "results"
MARK = "<!-- From here on written by scripts/results.py -->"
BEGIN, END = "<!-- Written by scripts/results.py -->", "<!-- By hand again -->"
CONFIGS = {
    "table1": "paper/table1",
    "tc_paper": "paper/tc",
    "addition": "paper/addition",
    "fixed": "paper/fixed",
    "longer": "paper/longer",
    "controls": "paper/controls",
    "best": "best",
    "best_longer": "best_longer",
}
"""The configuration of each experiment that the page shows, by its name, in this order."""


def keep(run: RunFolder) -> None:
    """Add a run's finished trials to those that are kept of its experiment, and write the report of all of them.

    Raises UserError, and leaves what is kept as it was, where the two do not fit together or a file is damaged.
    """
    experiment = run.load_experiment()
    if experiment.name not in CONFIGS:
        raise UserError(f"{run.path} is a run of {experiment.name}, and the page shows those of {', '.join(CONFIGS)}")
    finished = finished_trials(run, experiment)
    if not finished:
        raise UserError(f"{run.path} has nothing to keep yet: none of its trials has finished")
    kept = RunFolder(KEPT / experiment.name)
    if kept.path.exists():
        experiment = joined(kept.load_experiment(), experiment)
        refuse_other_recipe(kept, experiment, run)
    KEPT.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=KEPT, prefix=".") as scratch:
        merged = RunFolder(Path(scratch) / experiment.name)
        if kept.path.exists():
            shutil.copytree(kept.path, merged.path)
        for trial in finished:
            measured(run.trial(trial), trial)  # refuses what is damaged
            if not run.trial(trial).environment.exists():
                raise UserError(
                    f"{run.trial(trial).environment} is missing, which tells where the trial was trained: delete "
                    f"{run.trial(trial).path}, and train it again"
                )
            keep_trial(run.trial(trial), merged.trial(trial))
        write_text(merged.config, dump(experiment))
        write_json(merged.path / "report.json", json_document(experiment, rows_of(merged), None))
        if kept.path.exists():
            kept.path.rename(Path(scratch) / "before")
        merged.path.rename(kept.path)


def refuse_other_recipe(kept: RunFolder, experiment: ExperimentSpec, run: RunFolder) -> None:
    """Raise UserError where a kept trial is not what `experiment`, which a run has joined, says it is."""
    for trial in finished_trials(kept, experiment):
        before = measured(kept.trial(trial), trial).result.trial
        if before != trial:
            raise UserError(
                f"{kept.trial(trial).path} keeps another trial: {', '.join(differences(before, trial))}; "
                f"delete this folder, or all of {kept.path}, to keep what {run.path} holds"
            )


def keep_trial(trial: TrialFolder, kept: TrialFolder) -> None:
    """Copy what the numbers of a report need of a finished trial; one with the same result stays as it was kept."""
    if kept.result.exists() and kept.result.read_bytes() == trial.result.read_bytes():
        return
    shutil.rmtree(kept.path, ignore_errors=True)
    kept.path.mkdir(parents=True)
    for each in (trial.result, trial.timing, trial.environment, trial.evidence, trial.metrics):
        if each.exists():
            shutil.copyfile(each, kept.path / each.name)
    found = trial.load_predictions()
    sealed.write_arrays(kept.predictions, {name: smallest(found[name]) for name in ("predicted", "label", "digit")})


def smallest(numbers: np.ndarray) -> np.ndarray:
    """The same numbers, none of them negative, in the smallest type with a sign."""
    return numbers.astype(np.min_scalar_type(-1 - int(numbers.max())))


def tables(runs: dict[str, Any]) -> str:
    """What stands below MARK, in Markdown, from the reports of what is kept."""
    parts = []
    for name, report in runs.items():
        rows = report["rows"]
        parts += [
            f"## {CONFIGS[name]}: {report['finished']} of {report['trials']} trials",
            f"`stn-train run --config {CONFIGS[name]}`; one cell and seed: the same with "
            "`--only DATASET/NETWORK --seeds SEED`.",
            paper_layout(name, rows, intervals=True),
            *comparisons(rows),
            *controls(name),
            *what_is_undone(rows),
            *of_how_much(name),
            "Every cell: the error of each seed, and what it cost.",
            cells(name, rows),
            *above_the_paper(rows),
        ]
    return "\n\n".join(parts or ["Nothing has been kept yet."]) + "\n"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def table(header: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown; all columns but the first two are numbers."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def short_tables(runs: dict[str, Any]) -> str:
    """What stands between BEGIN and END in README.md."""
    return "\n\n".join(paper_layout(name, report["rows"], intervals=False) for name, report in runs.items())


def paper_layout(name: str, rows: list[dict[str, Any]], intervals: bool) -> str:
    """A line for each network, a column for each dataset: our error, with its interval or without, and the paper's."""
    found = {(row["dataset"], row["model"]): beside_paper(row, intervals) for row in rows}
    experiment = RunFolder(KEPT / name).load_experiment()
    datasets, models = ([entry.name for entry in entries] for entries in (experiment.datasets, experiment.models))
    datasets = [dataset for dataset in datasets if any((dataset, model) in found for model in models)]
    lines = [[model, *(found.get((dataset, model), "") for dataset in datasets)] for model in models]
    beside = " (the paper's)" if any(row["paper_error"] is not None for row in rows) else ""
    header = f"{CONFIGS[name]}: test error %{' [95 %]' if intervals else ''}{beside}"
    return table([header, *datasets], [line for line in lines if any(line[1:])])


def beside_paper(row: dict[str, Any], with_interval: bool) -> str:
    ours, paper = f"{row['error']['value']:.2f}", row["paper_error"]
    if paper is not None and round(row["error"]["value"], 1) <= paper:
        ours = f"**{ours}**"
    parts = [ours, interval(row["error"]) if with_interval else "", "" if paper is None else f"({paper})"]
    return " ".join(filter(None, parts))


def interval(estimate: dict[str, float], sign: str = "") -> str:
    return f"[{estimate['low']:{sign}.2f}, {estimate['high']:{sign}.2f}]"


def comparisons(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each network that has one to compare with; nothing where there is none."""
    lines = []
    for row in rows:
        if row["comparison"] is not None:
            difference, p = row["comparison"]["difference"], row["comparison"]["adjusted"]
            told = "errs less" if difference["value"] < 0 else "errs more"
            lines.append(
                [
                    f"{row['dataset']}: {row['model']} against {row['baseline']}",
                    f"{difference['value']:+.2f} {interval(difference, '+')}",
                    "< 0.001" if p < 0.001 else f"{p:.3f}",
                    str(len(row["paired_seeds"])),
                    told if p < 0.05 else "not shown",
                ]
            )
    question = "Does a transformer help? Differences from the network without one, in percentage points."
    header = ["network", "difference [95 %]", "p (Holm)", "seeds", "verdict"]
    return [question, table(header, lines)] if lines else []


def what_is_undone(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each network whose transformer's pose can be told; nothing where there is none."""
    told = [row for row in rows if row["undoing"] and row["undoing"]["pose"]]
    poses = [{one["component"]: one for one in row["undoing"]["pose"] if one["score"]} for row in told]
    of_a_digit = [{one["component"]: one for one in row["undoing"]["pose_of_a_digit"] if one["score"]} for row in told]
    components = [component for component in LEAST if any(component in pose for pose in poses)]
    lines = [
        [
            f"{row['dataset']}: {row['model']}",
            *(spread(pose[name], draws.get(name)) if name in pose else "" for name in components),
            *(f"{row['undoing']['overlap'][share]['value']:.0f} %" for share in ("iou", "ink")),
            ", ".join(f"{100 * one['folded']:.0f} %" for one in row["health"]),
            within_classes(row["undoing"]["within_classes"]),
        ]
        for row, pose, draws in zip(told, poses, of_a_digit, strict=True)
    ]
    question = (
        "Does it undo the distortion? How much of each component's spread is gone, and that before and after; behind "
        "it, where that was measured, how much between two draws of one digit. What else stands here is told above."
    )
    header = ["network", *components, "IoU", "ink in view", "folded", "within classes"]
    shown = [number for number in range(len(header)) if number == 0 or any(line[number] for line in lines)]
    kept = [[line[number] for number in shown] for line in (header, *lines)]
    return [question, table(kept[0], kept[1:])] if lines else []


def controls(name: str) -> list[str]:
    """A sentence for each network that has controls; nothing where there is none."""
    sentences = gains(rows_of(RunFolder(KEPT / name)))
    return ["\n".join(f"- {sentence}." for sentence in sentences)] if sentences else []


def of_how_much(name: str) -> list[str]:
    """How much of small and of large distortions is undone; nothing where that was not measured."""
    header, *lines = courses(rows_of(RunFolder(KEPT / name))) or [[]]
    told = [[f"{dataset}: {model}", *cells] for dataset, model, *cells in lines]
    question = "Of small distortions as of large ones? How much of either half is gone, on average."
    return [question, table(["network", *header[2:]], told)] if told else []


def within_classes(shares: dict[str, Any] | None) -> str:
    """Of images, of what the classifier reads, and of undistorted digits: `89 to 70 % (79)`."""
    if shares is None:
        return ""
    images, output, digits = (f"{shares[name]['value']:.0f}" for name in ("images", "output", "digits"))
    return f"{images} to {output} % ({digits})"


def spread(one: dict[str, Any], of_a_digit: dict[str, Any] | None) -> str:
    """A component of the pose: `41 % (51.9 to 30.5 °); 43 %`."""
    digits = 2 if one["unit"] == "log" else 1
    words = f"{one['score']['value']:z.0f} % ({one['before']:.{digits}f} to {one['after']:.{digits}f} {one['unit']})"
    return words if of_a_digit is None else f"{words}; {of_a_digit['score']['value']:z.0f} %"


def cells(name: str, rows: list[dict[str, Any]]) -> str:
    """A line for each cell, and below them what the numbers in the last column stand for."""
    machines: dict[str, int] = {}
    lines = []
    for row in rows:
        cell = KEPT / name / "trials" / row["dataset"] / row["model"]
        trials = [cell / f"seed-{seed}" for seed in row["seeds"]]
        threads = {read(trial / "timing.json")["threads"] for trial in trials}
        made_on = {machines.setdefault(machine(trial), len(machines) + 1) for trial in trials}
        lines.append(
            [
                f"{row['dataset']}/{row['model']}",
                ", ".join(f"{error:.2f}" for error in row["seed_errors"]),
                f"{row['parameters']:,}",
                f"{row['multiply_adds'] / 1e6:.1f} M",
                f"{row['training_seconds'] / 60:.0f} min",
                ", ".join(map(str, sorted(threads))),
                ", ".join(map(str, sorted(made_on))),
            ]
        )
    header = ["cell", "error % of each seed", "parameters", "multiply-adds", "training", "threads", "made on"]
    return "\n".join([table(header, lines), "", *(f"- {number}: {words}" for words, number in machines.items())])


def machine(trial: Path) -> str:
    """Where a kept trial was trained, and by what."""
    environment = read(trial / "environment.json")
    commit, *dirty = (environment["commit"] or "unknown").split("-")
    version = "-".join([commit[:7], *dirty])
    return f"{environment['device']}, torch {environment['versions']['torch']}, commit `{version}`"


def above_the_paper(rows: list[dict[str, Any]]) -> list[str]:
    """Names the cells whose mean error, rounded as the paper's, is above the paper's; nothing if the paper has none."""
    known = [row for row in rows if row["paper_error"] is not None]
    above = [
        f"{row['dataset']}/{row['model']} ({row['error']['value']:.2f} against {row['paper_error']})"
        for row in known
        if round(row["error"]["value"], 1) > row["paper_error"]
    ]
    if above:
        return [f"Above the paper's figure: {', '.join(above)}."]
    return ["No cell is above the paper's figure."] if known else []


def around(path: Path, *marks: str) -> list[str]:
    """What stands in a page before, between and after the marks. Raises UserError where they are not there in order."""
    text, parts = path.read_text(encoding="utf-8"), []
    for mark in marks:
        part, found, text = text.partition(mark)
        if not found:
            raise UserError(f"{path} has no line {mark}, or not in its place; add it where the tables belong")
        parts.append(part)
    return [*parts, text]


if __name__ == "__main__":
    try:
        page, _ = around(PAGE, MARK)
        before, _, after = around(README, BEGIN, END)
        for argument in sys.argv[1:]:
            keep(RunFolder(Path(argument)))
    except UserError as error:
        sys.exit(str(error))
    reports = {name: read(KEPT / name / "report.json") for name in CONFIGS if (KEPT / name).exists()}
    PAGE.write_text(f"{page}{MARK}\n\n{tables(reports)}", encoding="utf-8")
    README.write_text(f"{before}{BEGIN}\n\n{short_tables(reports)}\n\n{END}{after}", encoding="utf-8")

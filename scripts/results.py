"""Writes the tables of docs/results.md, the paper's and ours side by side, from the results kept in docs/results.

    python scripts/results.py runs/table1 runs/tc_paper    # keeps what these runs have finished, then writes the tables
    python scripts/results.py                              # writes the tables from what is kept

What stands above MARK in the page stays. Of a run, config.yaml, environment.json and report.json are kept, and of each
of its finished trials result.json and timing.json. Intervals and comparisons are those of report.json, which
`stn-train report` makes of the trials' predictions.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "results.md"
KEPT = DOCS / "results"
MARK = "<!-- From here on written by scripts/results.py -->"
CONFIGS = {"table1": "paper/table1", "tc_paper": "paper/tc", "addition": "paper/addition"}
"""The configuration of each experiment that the page shows, by its name, in this order."""
OF_A_RUN = ("config.yaml", "environment.json", "report.json")


def keep(run: Path) -> None:
    """Copy what the page is made of from a run's folder, after its report has been written."""
    missing = [name for name in OF_A_RUN if not (run / name).exists()]
    if missing:
        sys.exit(f"{run} has no {missing[0]}: name a run's folder whose report has been written")
    name = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["name"]
    if name not in CONFIGS:
        sys.exit(f"{run} is a run of {name}, and the page shows those of {', '.join(CONFIGS)}")
    copy = KEPT / f".{name}"
    shutil.rmtree(copy, ignore_errors=True)
    names = list(OF_A_RUN)
    for result in run.glob("trials/*/*/*/result.json"):
        names += [str(result.with_name(each).relative_to(run)) for each in ("result.json", "timing.json")]
    for each in names:
        (copy / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / each, copy / each)
    shutil.rmtree(KEPT / name, ignore_errors=True)
    copy.rename(KEPT / name)


def tables() -> str:
    """What stands below MARK, in Markdown."""
    runs = {name: read(KEPT / name / "report.json") for name in CONFIGS if (KEPT / name).exists()}
    parts = []
    for name, report in runs.items():
        rows = report["rows"]
        parts += [
            f"## {CONFIGS[name]}: {report['finished']} of {report['trials']} trials",
            made_by(name),
            paper_layout(rows),
            "Does a transformer help? Differences from the network without one, in percentage points.",
            comparisons(rows),
            "Every cell: the error of each seed, and what it cost.",
            cells(name, rows),
            *above_the_paper(rows),
        ]
    return "\n\n".join(parts or ["Nothing has been kept yet."]) + "\n"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def made_by(name: str) -> str:
    """The command of a run and where it ran."""
    environment = read(KEPT / name / "environment.json")
    versions, (commit, *dirty) = environment["versions"], (environment["commit"] or "unknown").split("-")
    version = "-".join([commit[:7], *dirty])
    return (
        f"`stn-train run --config {CONFIGS[name]}`, its last part at commit `{version}`, with torch "
        f"{versions['torch']} on {environment['device']}; one cell and seed again: "
        f"`stn-train run --config {CONFIGS[name]} --only DATASET/NETWORK --seeds SEED`."
    )


def table(header: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown; all columns but the first two are numbers."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def paper_layout(rows: list[dict[str, Any]]) -> str:
    """A line for each network, a column for each dataset: our error, its interval, and the paper's error."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        found = {row["dataset"]: row for row in rows if row["model"] == model}
        lines.append([model, *(beside_paper(found[name]) if name in found else "" for name in datasets)])
    return table(["test error % [95 %] (the paper's)", *datasets], lines)


def beside_paper(row: dict[str, Any]) -> str:
    ours = f"{row['error']['value']:.2f}"
    if row["paper_error"] is None:
        return f"{ours} {interval(row['error'])}"
    if round(row["error"]["value"], 1) <= row["paper_error"]:
        ours = f"**{ours}**"
    return f"{ours} {interval(row['error'])} ({row['paper_error']})"


def interval(estimate: dict[str, float], sign: str = "") -> str:
    return f"[{estimate['low']:{sign}.2f}, {estimate['high']:{sign}.2f}]"


def comparisons(rows: list[dict[str, Any]]) -> str:
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
    return table(["network", "difference [95 %]", "p (Holm)", "seeds", "verdict"], lines)


def cells(name: str, rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        folder = KEPT / name / "trials" / row["dataset"] / row["model"]
        threads = sorted({read(path)["threads"] for path in folder.glob("*/timing.json")})
        lines.append(
            [
                f"{row['dataset']}/{row['model']}",
                ", ".join(f"{error:.2f}" for error in row["seed_errors"]),
                f"{row['parameters']:,}",
                f"{row['multiply_adds'] / 1e6:.1f} M",
                f"{row['training_seconds'] / 60:.0f} min",
                ", ".join(map(str, threads)),
            ]
        )
    return table(["cell", "error % of each seed", "parameters", "multiply-adds", "training", "threads"], lines)


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


if __name__ == "__main__":
    for run in sys.argv[1:]:
        keep(Path(run))
    by_hand, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    PAGE.write_text(f"{by_hand}{MARK}\n\n{tables()}", encoding="utf-8")

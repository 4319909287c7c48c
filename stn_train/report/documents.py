"""Rows as documents for programs: JSON, and CSV for spreadsheets."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stn_train.evaluation.metrics import LEAST
from stn_train.report.alignment import SHARES, WITHIN
from stn_train.report.results import Row
from stn_train.report.robustness import Robust
from stn_train.report.text import gains, verdicts, warnings
from stn_train.specs import ExperimentSpec, trials_of
from stn_train.statistics import Comparison, Estimate

FORMAT = 5
"""The format version of report.json."""


def json_document(experiment: ExperimentSpec, rows: Sequence[Row], found: Robust | None) -> dict[str, Any]:
    """Everything the report knows, as plain values: what `report.json` holds."""
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "source": experiment.source,
        "finished": sum(len(row.seeds) for row in rows),
        "trials": len(trials_of(experiment)),
        "verdicts": verdicts(rows),
        "gains": gains(rows),
        "warnings": warnings(rows),
        "rows": [row_values(row) for row in rows],
        "robustness": found and asdict(found),
    }


def row_values(row: Row) -> dict[str, Any]:
    """A row as plain values."""
    return {**asdict(row), "diagnostics": [diagnostics.model_dump() for diagnostics in row.diagnostics]}


def csv_document(rows: Sequence[Row]) -> str:
    """A line for each row: an interval's ends in columns of their own, values by seed separated by spaces.

    Rows of datasets with more classes have more columns, which are empty in the others.
    """
    lines = [_flat(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, max(map(list, lines), key=len), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in asdict(row).items():
        if key == "error":
            flat |= _flat_estimate(key, row.error)
        elif key == "comparison":
            flat |= _flat_comparison(row.comparison)
        elif key == "class_errors":
            flat |= {f"error_of_class_{label}": error for label, error in enumerate(value)}
        elif key in ("seeds", "seed_errors", "paired_seeds", "tta_angles"):
            flat[key] = " ".join(map(str, value))
        elif key == "alignment":
            flat |= _flat_alignment(row)
        elif key == "warnings":
            flat["warnings"] = "; ".join(value)
        elif key not in ("confusion", "gain", "diagnostics"):
            flat[key] = value
    return flat


def _flat_estimate(name: str, number: Estimate | None) -> dict[str, Any]:
    ends = (number.value, number.low, number.high) if number else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _flat_comparison(comparison: Comparison | None) -> dict[str, Any]:
    flat = _flat_estimate("difference", comparison.difference if comparison else None)
    if comparison is None:
        return flat | dict.fromkeys(("p", "adjusted_p", "mcnemar"))
    exact = " ".join(map(str, comparison.mcnemar))
    return flat | {"p": comparison.p, "adjusted_p": comparison.adjusted, "mcnemar": exact}


def _flat_alignment(row: Row) -> dict[str, Any]:
    """What is removed in percent, component by component, and the shares of regions; None where they cannot be told."""
    shares = row.alignment.overlap if row.alignment else None
    poses = {
        "removed": row.alignment.pose if row.alignment else (),
        "removed_of_a_digit": row.alignment.pose_of_a_digit if row.alignment else (),
    }
    flat: dict[str, Any] = {}
    for name, pose in poses.items():
        scores = {one.component: one.score.value for one in pose if one.score}
        flat |= {f"{name}_{component}": scores.get(component) for component in LEAST}
    within = row.alignment.within_classes if row.alignment else None
    for name in WITHIN:
        flat[f"within_classes_{name}"] = getattr(within, name).value if within else None
    return flat | {name: getattr(shares, name).value if shares else None for name in SHARES}

"""How upright digits end up behind networks, and behind poses that nothing has learnt, as one Markdown table.

    stn-train robustness RUN                          # of each run, for the columns of 24 angles
    python scripts/turning.py RUN ... [--against st_cnn_paper] [--data-root DIR]

A row for each dataset and network of the runs' folders, over the seeds that have finished in any of them; then, on the
same test images, poses without learning. Errors are of networks alone. `--against` adds the difference in error to that
network's, over the seeds that both have. The measures are those of the report (stn_train.report.measures).
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from stn_train.data.datasets import TEST_SEED, FixedDataset, make_fixed_dataset
from stn_train.data.distortion import true_poses
from stn_train.evaluation.alignment import maps_of, pose_components, turns_left
from stn_train.evaluation.metrics import HALF_TURNS
from stn_train.experiment.runtime import Runtime, load_fixed, open_runtime
from stn_train.geometry import HOMOGRAPHY, SIMILARITY, Family
from stn_train.models.equivariant import ANGLES, RADII, REACH, EquivariantLocalisation
from stn_train.models.transformer import SpatialTransformer
from stn_train.report.measures import cell, in_group
from stn_train.report.page import markdown_table, records
from stn_train.report.results import Trial, read_trials, tabulate
from stn_train.run_folder import RunFolder
from stn_train.specs import DatasetSpec, TrialSpec

TURNS = [measure.key for measure in in_group("turns")]
_BATCH = 500


# --- poses that nothing has learnt: theta, M x p, of the family's, for the images of a dataset ------------------------

Pose = Callable[[DatasetSpec, FixedDataset], Tensor]


def by_ink(angle_of: Callable[[Tensor], Tensor]) -> Pose:
    """The ink's centre of mass and radius of gyration, and an angle, N, of polar images, N x R x A."""

    def pose(dataset: DatasetSpec, fixed: FixedDataset) -> Tensor:
        thetas, polar_images = [], EquivariantLocalisation(dataset.channels)
        for batch in fixed.images.split(_BATCH):
            place, polar = polar_images.read(batch.float() / 255)
            x, y, radius = place.unbind(dim=1)
            angle, scale = angle_of(polar.sum(dim=1)), REACH * radius
            thetas.append(torch.stack([scale * angle.cos(), scale * angle.sin(), x, y], dim=1))
        return torch.cat(thetas)

    return pose


_ANGLE = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
_RADIUS = (torch.arange(RADII) + 0.5)[:, None]


def first_moment(polar: Tensor) -> Tensor:
    """Where around its centre there is most ink: the angle of the mean direction, each pixel of ink alike."""
    rings = (polar * _RADIUS).sum(dim=1)
    return torch.atan2(rings @ _ANGLE.sin(), rings @ _ANGLE.cos())


def principal_axis(polar: Tensor) -> Tensor:
    """The longest axis through the centre, pointing to where the ink reaches farthest: its third moment is positive."""
    second = (polar * _RADIUS**3).sum(dim=1)
    axis = torch.atan2(second @ (2 * _ANGLE).sin(), second @ (2 * _ANGLE).cos()) / 2
    third = ((polar * _RADIUS**4).sum(dim=1) * (_ANGLE - axis[:, None]).cos() ** 3).sum(dim=1)
    return axis + math.pi * (third < 0)


def untrained(dataset: DatasetSpec, fixed: FixedDataset) -> Tensor:
    """The equivariant localisation network's, as it is before training."""
    torch.manual_seed(0)
    network = EquivariantLocalisation(dataset.channels).eval()
    return torch.cat([network(batch.float() / 255) for batch in fixed.images.split(_BATCH)])


def oracle(dataset: DatasetSpec, fixed: FixedDataset) -> Tensor:
    """The true pose."""
    return true_poses(dataset, fixed.theta)


def oracle_up_to_a_half_turn(dataset: DatasetSpec, fixed: FixedDataset) -> Tensor:
    """The true pose, of which every other image's, by chance, is upside down."""
    poses = oracle(dataset, fixed).view(-1, 3, 3)
    coins = torch.rand(len(poses), generator=torch.Generator().manual_seed(int(fixed.images.sum()))) < 0.5
    poses[coins, :, :2] *= -1
    return poses.flatten(1)


POSES: dict[str, tuple[Family, Pose]] = {
    "no learning: centroid, first circular moment": (SIMILARITY, by_ink(first_moment)),
    "no learning: centroid, principal axis, third moment": (SIMILARITY, by_ink(principal_axis)),
    "equivariant, untrained": (SIMILARITY, untrained),
    "oracle pose": (HOMOGRAPHY, oracle),
    "oracle pose, up to a half turn": (HOMOGRAPHY, oracle_up_to_a_half_turn),
}


@torch.no_grad()
def measured(trial: TrialSpec, family: Family, pose: Pose, runtime: Runtime) -> dict[str, float | None]:
    """The report's measures of what rotation is left, by key, on the test images of a trial's dataset."""
    dataset, fixed = trial.dataset, load_fixed(trial, trial.dataset, runtime)
    again, *_ = make_fixed_dataset(dataset, fixed.digits, "test", TEST_SEED + 1)
    stages = [SpatialTransformer(torch.nn.Identity(), family, (28, 28))]
    thetas = [pose(dataset, each) for each in (fixed, again)]
    digit = torch.cat([fixed.digit, again.digit])
    twice = maps_of(dataset, stages, torch.cat([fixed.theta, again.theta]), [torch.cat(thetas)])
    components = pose_components(maps_of(dataset, stages, fixed.theta, thetas[:1]))
    left = turns_left(components, pose_components(twice, digit), fixed.labels, digit, HALF_TURNS[trial.source])
    found = dict(zip(TURNS, left, strict=True))
    return found | {"turn_large": None if left[1] is None else 100 * left[1]}


# --- the table --------------------------------------------------------------------------------------------------------


def table(trials: Sequence[Trial], runtime: Runtime) -> str:
    """Networks and poses, dataset by dataset."""
    results = tabulate(trials)
    differences = {(row["dataset"], row["model"]): row for row in records(results.comparisons) if row["part"] == "all"}
    keys = ["error", *(measure.key for measure in in_group("rotated")), *TURNS]
    head = ["dataset", "pose", "seeds", "error %", "difference", "mean of 24 angles", "at the worst", "wrong at any"]
    lines = [[*head, "median of two", "above 20°", "a class, before", "after"]]
    rows = records(results.summary)
    for spec in {trial.row["dataset"]: trial.spec for trial in trials if trial.spec}.values():
        name = spec.dataset.name
        for row in (row for row in rows if row["dataset"] == name):
            error, *rest = (cell(row, key) or "–" for key in keys)
            difference = cell(differences.get((name, row["model"]), {}), "difference") or "–"
            lines.append([name, f"`{row['model']}`", str(len(row["seeds"])), error, difference, *rest])
        for title, (family, pose) in POSES.items():
            found = measured(spec, family, pose, runtime)
            lines.append([name, title, *["–"] * 6, *(cell(found, key) or "–" for key in TURNS)])
    return markdown_table(lines, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--against")
    parser.add_argument("--data-root", type=Path)
    options = parser.parse_args()
    folders = [RunFolder(path) for path in options.runs]
    every = [trial for folder in folders for trial in read_trials(folder, folder.load_experiment())]
    every = [replace(each, row=each.row | {"baseline": options.against}) for each in every]
    print(table(every, open_runtime("cpu", None, options.data_root)))

"""How upright digits end up behind networks, and behind poses that nothing has learnt, as one Markdown table.

    stn-train robustness RUN                          # of each run, for the columns of 24 angles
    python scripts/turning.py RUN ... [--against st_cnn_paper] [--data-root DIR]

A row for each dataset and network of the runs' folders, over the seeds that have finished in any of them; then, on the
same test images, poses without learning. `--against` adds the difference in error to that network's, over the seeds
that both have. The measures are those of the report (stn_train.report.measures); what rotation is left is measured
anew from the checkpoints. Of transformers that are single ones, at the input.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from stn_train.data.datasets import TEST_SEED, FixedDataset, make_fixed_dataset
from stn_train.data.distortion import true_poses
from stn_train.evaluation.alignment import maps_of, rotations, turns_left
from stn_train.evaluation.metrics import HALF_TURNS
from stn_train.experiment.load import load_trained
from stn_train.experiment.runtime import Runtime, load_fixed, open_runtime
from stn_train.geometry import HOMOGRAPHY, SIMILARITY, Family
from stn_train.models.equivariant import ANGLES, RADII, REACH, EquivariantLocalisation
from stn_train.models.transformer import SpatialTransformer
from stn_train.report.measures import MEASURES, cell
from stn_train.report.page import markdown_table, records
from stn_train.report.results import Trial, read_trials, tabulate
from stn_train.run_folder import RunFolder
from stn_train.specs import DatasetSpec, TrialSpec

TURNS = [measure.key for measure in MEASURES if measure.group == "turns"]
_ANGLE = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
_RADIUS = (torch.arange(RADII) + 0.5)[:, None]

Pose = Callable[[DatasetSpec, FixedDataset], Tensor]
"""Theta, M x p, of the images of a dataset."""


def predicted(theta_of: Callable[[Tensor], Tensor]) -> Pose:
    """From images, N x C x H x W, by themselves."""
    return lambda _, fixed: torch.cat([theta_of(some.float() / 255) for some in fixed.images.split(500)])


def by_ink(angle_of: Callable[[Tensor], Tensor]) -> Pose:
    """The ink's centre of mass and radius of gyration, and an angle, N, of polar images, N x R x A."""

    def theta_of(images: Tensor) -> Tensor:
        place, polar = EquivariantLocalisation(images.shape[1]).read(images)
        x, y, radius = place.unbind(dim=1)
        angle, scale = angle_of(polar.sum(dim=1)), REACH * radius
        return torch.stack([scale * angle.cos(), scale * angle.sin(), x, y], dim=1)

    return predicted(theta_of)


def first_moment(polar: Tensor) -> Tensor:
    """Where around its centre there is most ink: the angle of the mean direction, each pixel of ink alike."""
    around = (polar * _RADIUS).sum(dim=1)
    return torch.atan2(around @ _ANGLE.sin(), around @ _ANGLE.cos())


def principal_axis(polar: Tensor) -> Tensor:
    """The longest axis through the centre, pointing to where the ink reaches farthest: its third moment is positive."""
    second = (polar * _RADIUS**3).sum(dim=1)
    axis = torch.atan2(second @ (2 * _ANGLE).sin(), second @ (2 * _ANGLE).cos()) / 2
    third = ((polar * _RADIUS**4).sum(dim=1) * (_ANGLE - axis[:, None]).cos() ** 3).sum(dim=1)
    return axis + math.pi * (third < 0)


def oracle(dataset: DatasetSpec, fixed: FixedDataset, upside_down: float = 0.0) -> Tensor:
    """The true pose; of a share of the images, by chance, upside down."""
    poses = true_poses(dataset, fixed.theta).view(-1, 3, 3)
    coins = torch.rand(len(poses), generator=torch.Generator().manual_seed(int(fixed.images.sum())))
    poses[coins < upside_down, :, :2] *= -1
    return poses.flatten(1)


@torch.no_grad()
def measured(trial: TrialSpec, family: Family, pose: Pose, runtime: Runtime) -> dict[str, float | None]:
    """The report's measures of what rotation is left, by key, on the test images of a trial's dataset."""
    dataset, fixed = trial.dataset, load_fixed(trial, trial.dataset, runtime)
    again, *_ = make_fixed_dataset(dataset, fixed.digits, "test", TEST_SEED + 1)
    stages = [SpatialTransformer(nn.Identity(), family, trial.source.size)]
    thetas = [pose(dataset, each) for each in (fixed, again)]
    once = rotations(maps_of(dataset, stages, fixed.theta, thetas[:1], trial.source.size))
    both = torch.cat([fixed.theta, again.theta])
    twice = rotations(maps_of(dataset, stages, both, [torch.cat(thetas)], trial.source.size))
    digit = torch.cat([fixed.digit, again.digit])
    left = turns_left(once, twice, fixed.labels, digit, HALF_TURNS.get(trial.source.name, ()))
    return dict(zip(TURNS, left, strict=True)) | {"turn_large": None if left[1] is None else 100 * left[1]}


def read(folder: RunFolder, against: str | None, runtime: Runtime) -> list[Trial]:
    """The finished trials of a run."""
    found = []
    for trial in read_trials(folder, folder.load_experiment()):
        row = trial.row | {"baseline": None if trial.row["model"] == against else against}
        if trial.spec and trial.spec.model.pose == "predicted" and trial.spec.model.transformer:
            front = load_trained(folder.trial(trial.spec).checkpoint, runtime).network.transformer
            assert isinstance(front, SpatialTransformer)
            row |= measured(trial.spec, front.family, predicted(front.localisation), runtime)
        found.append(replace(trial, row=row))
    return found


def table(trials: Sequence[Trial], runtime: Runtime) -> str:
    """Networks and poses, dataset by dataset."""
    torch.manual_seed(0)
    poses: dict[str, tuple[Family, Pose]] = {
        "no learning: centroid, first circular moment": (SIMILARITY, by_ink(first_moment)),
        "no learning: centroid, principal axis, third moment": (SIMILARITY, by_ink(principal_axis)),
        "equivariant, untrained": (SIMILARITY, predicted(EquivariantLocalisation(1).eval())),
        "oracle pose": (HOMOGRAPHY, oracle),
        "oracle pose, up to a half turn": (HOMOGRAPHY, lambda data, fixed: oracle(data, fixed, 0.5)),
    }
    results = tabulate(trials)
    differences = {(row["dataset"], row["model"]): row for row in records(results.comparisons) if row["part"] == "all"}
    keys = ["error", *(measure.key for measure in MEASURES if measure.group == "rotated"), *TURNS]
    head = ["dataset", "pose", "seeds", "error %", "difference", "mean of 24 angles", "at the worst", "wrong at any"]
    lines = [[*head, "median of two", "above 20°", "a class, before", "after"]]
    rows = records(results.summary)
    for name, spec in {trial.row["dataset"]: trial.spec for trial in trials if trial.spec}.items():
        for row in (row for row in rows if row["dataset"] == name):
            error, *rest = (cell(row, key) or "–" for key in keys)
            difference = cell(differences.get((name, row["model"]), {}), "difference") or "–"
            lines.append([name, f"`{row['model']}`", str(len(row["seeds"])), error, difference, *rest])
        for title, (family, pose) in poses.items():
            found = measured(spec, family, pose, runtime)
            lines.append([name, title, *["–"] * 6, *(cell(found, key) or "–" for key in TURNS)])
    return markdown_table(lines, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--against")
    parser.add_argument("--data-root", type=Path)
    options = parser.parse_args()
    cpu = open_runtime("cpu", None, options.data_root)
    print(table([each for run in options.runs for each in read(RunFolder(run), options.against, cpu)], cpu))

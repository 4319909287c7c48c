"""Does a digit's place tell its angle, and does a network read it off there? Markdown tables for docs/findings.md.

    python scripts/place.py RUN [--data-root DIR]

MNIST's digits lie beside the middle of their frame, about which they are turned. The first table says how far the
direction in which the ink's centre lies from the middle tells the angle. The second moves the ink of R's test images:
its centre into the middle, or as far from it as before, in a direction by chance. A row for each network of a run on R,
the mean over its seeds: the error, and how much of the variation in rotation a transformer removes.
"""

import argparse
import math
from collections.abc import Sequence

import torch
from torch import Tensor

import stn_train as st
from stn_train.evaluation.alignment import decompose, maps_of, pose_components, spreads
from stn_train.geometry import AFFINE, SIMILARITY, ink_place
from stn_train.report.page import markdown_table
from stn_train.specs import DatasetSpec

DATASETS = ("r", "r_centred", "rts", "rts_wide")
MOVED = ("as they are", "in the middle", "in another direction")


def off_mean(angle: Tensor) -> Tensor:
    """How far angles lie from their mean direction, each within half a turn; in degrees."""
    mean = torch.atan2(angle.sin().mean(), angle.cos().mean())
    return torch.rad2deg(torch.remainder(angle - mean + math.pi, 2 * math.pi) - math.pi)


def moved(images: Tensor, by: Tensor) -> Tensor:
    """Images, N x C x H x W, whose ink comes from `by`, N x 2, normalised, to the middle."""
    upright = torch.tensor([1.0, 0.0]).expand(len(by), 2)
    height, width = images.shape[2:]
    return st.bilinear_sampler(images, SIMILARITY.grid(torch.cat([upright, by], dim=1), (height, width)))


def told_by_place(data_root: str | None) -> list[list[str]]:
    """Of each dataset: how far the ink's centre lies from the middle, and the angle's error as it tells it."""
    lines = [["dataset", "ink's centre from the middle, pixels", "the angle it tells is off by, median", "by chance"]]
    for name in DATASETS:
        data = st.make_dataset(name, data_root=data_root)
        place = ink_place(data.images.float())[:, :2]
        direction, angle = (
            torch.atan2(place[:, 1], place[:, 0]),
            -decompose(AFFINE.matrix(data.theta))["rotation"][:, 0],
        )
        other = angle[torch.randperm(len(angle), generator=torch.Generator().manual_seed(0))]
        off = [f"{off_mean(direction - one).abs().median():.0f}°" for one in (angle, other)]
        lines.append([name, f"{place.norm(dim=1).mean() * data.images.shape[2] / 2:.1f}", *off])
    return lines


@torch.inference_mode()
def read_off_place(path: str, data_root: str | None) -> list[list[str]]:
    """Of each network: error and removed rotation, with the ink where it is, and moved."""
    run, data, dataset = st.load_run(path), st.make_dataset("r", data_root=data_root), DatasetSpec.model_validate("r")
    images = data.images.float() / 255
    place = ink_place(images)[:, :2]
    angle = 2 * math.pi * torch.rand(len(images), generator=torch.Generator().manual_seed(0))
    elsewhere = place.norm(dim=1, keepdim=True) * torch.stack([angle.cos(), angle.sin()], dim=1)
    given = [images, moved(images, place), moved(images, place - elsewhere)]
    lines = [["network, ink", *(f"{name}: {what}" for name in MOVED for what in ("error %", "rotation removed %"))]]
    trials = run.trials[run.trials["dataset"] == "r"]
    for model, of_model in trials.groupby("model", sort=False):
        cells: list[list[tuple[float, float]]] = [[] for _ in given]
        for seed in of_model["seed"]:
            network = run.network("r", str(model), seed=int(seed)).eval()
            for found, ink in zip(cells, given, strict=True):
                wrong = torch.cat([network(some) for some in ink.split(500)]).argmax(dim=1) != data.labels
                removed = math.nan
                if isinstance(transformer := network.transformer, st.SpatialTransformer):
                    theta = torch.cat([transformer.localisation(some) for some in ink.split(500)])
                    components = pose_components(maps_of(dataset, [transformer], data.theta, [theta]))
                    (rotation,) = (one for one in spreads(components) if one.component == "rotation")
                    removed = 100 * (1 - rotation.after / rotation.before)
                found.append((100 * float(wrong.double().mean()), removed))
        means = torch.tensor(cells).mean(dim=1).tolist()
        shown = [text for error, removed in means for text in (f"{error:.2f}", f"{removed:.0f}")]
        lines.append([f"`{model}` ({len(of_model)})", *("–" if text == "nan" else text for text in shown)])
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run with networks trained on r")
    parser.add_argument("--data-root", help="the folder of MNIST's files")
    given = parser.parse_args(arguments)
    for lines in (told_by_place(given.data_root), read_off_place(given.run, given.data_root)):
        print(markdown_table(lines, 1))


if __name__ == "__main__":
    main()

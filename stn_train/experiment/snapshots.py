"""What a trial's pictures are drawn from: a few images, and what its network makes of them, as arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.data.datasets import FixedDataset, make_fixed_dataset
from stn_train.errors import UserError
from stn_train.evaluation.classify import Predictions, classify, outputs_and_outlines
from stn_train.evaluation.variance import class_means
from stn_train.experiment.runtime import Runtime
from stn_train.models.network import Network, precision_on
from stn_train.run_folder import Gallery, TrialFolder, numbered
from stn_train.specs import TrialSpec

Arrays = dict[str, NDArray[Any]]

_OF_A_KIND = 8
_FEW = 10
_UNMISTAKABLE = 4
"""A class whose digits look like no other, nor like their own, when they are turned."""
_ANGLES = range(0, 360, 15)
_FRAMES = ("output", "outline", "predicted")
"""What changes from frame to frame of an animation."""


def has_gallery(trial: TrialSpec) -> bool:
    """Whether there is a transformer to draw: one at the input, that a localisation network steers."""
    transformer = trial.model.transformer
    return transformer is not None and 0 in transformer.before and transformer.pose in ("predicted", "supervised")


def gallery(
    trial: TrialSpec, runtime: Runtime, network: Network, fixed: FixedDataset, predictions: Predictions
) -> dict[Gallery, Arrays]:
    """The arrays of the pictures of a network, by their kind (see run_folder); none without transformers.

    All but `training`, which grows epoch by epoch. predictions: of the fixed images.
    """
    if not has_gallery(trial):
        return {}
    chosen = _chosen(predictions, fixed.labels)
    index = torch.cat(chosen)
    kinds = np.repeat(range(len(chosen)), [len(kind) for kind in chosen])
    network.eval()
    means = class_means(network.front, fixed.images, fixed.labels, trial.dataset.classes, runtime.device)
    found: dict[Gallery, Arrays] = {
        "examples": _seen(trial, network, fixed.images[index], fixed.labels[index], runtime) | {"kind": kinds},
        "means": dict(zip(("image", "output"), (_bytes(mean).numpy() for mean in means), strict=True)),
    }
    if trial.dataset.channels == 1:
        found["rotation_sweep"] = _rotation_sweep(trial, fixed, network, runtime)
    return found


# --- the animation of a training --------------------------------------------------------------------------------------


def snapshot(trial: TrialSpec, runtime: Runtime, network: Network, fixed: FixedDataset) -> Arrays:
    """What a network makes of the first fixed image of each class; a frame of the animation (see run_folder).

    Empty where there is nothing to draw.
    """
    if not has_gallery(trial):
        return {}
    classes = fixed.labels.unique()[:_FEW]
    index = torch.stack([(fixed.labels == label).nonzero()[0, 0] for label in classes])
    seen = _seen(trial, network, fixed.images[index], fixed.labels[index], runtime)
    return {name: array[None] if _changes(name) else array for name, array in seen.items()} | {"epoch": np.array([0])}


def extended(frames: Mapping[str, NDArray[Any]], frame: Mapping[str, NDArray[Any]], epoch: int) -> Arrays:
    """The frames so far, and one more, after this epoch."""
    frame = {**frame, "epoch": np.array([epoch])}
    return {name: np.concatenate([array, frame[name]]) if _changes(name) else array for name, array in frames.items()}


def frames_until(epoch: int, folder: TrialFolder, before: Arrays) -> Arrays:
    """The frames that a trial's folder has up to this epoch; `before`, the one before training, where it has none."""
    try:
        kept = folder.load_gallery(["training"]).get("training")
    except UserError:  # no training is lost for a picture
        return before
    if kept is None:
        return before
    frames = int(np.sum(kept["epoch"].astype(int) <= epoch))
    return {name: array[:frames] if _changes(name) else array for name, array in kept.items()}


def _changes(name: str) -> bool:
    return name == "epoch" or name.startswith(_FRAMES)


# --- images and what becomes of them ----------------------------------------------------------------------------------


def _seen(trial: TrialSpec, network: Network, images: Tensor, labels: Tensor, runtime: Runtime) -> Arrays:
    """Images, what every transformer at the input makes of them, and the classes that the network predicts."""
    assert isinstance(network.transformer, nn.Module)
    precision = precision_on(runtime.device, trial.training)
    seen = outputs_and_outlines(network.transformer, images, runtime.device)
    found = {
        "image": images,
        **numbered("output", [_bytes(output) for output, _ in seen]),
        **numbered("outline", [outline for _, outline in seen if outline is not None]),
        "label": labels,
        "predicted": classify(network, images, runtime.device, precision, tta_angles=trial.model.tta_angles).predicted,
    }
    return {name: array.numpy() for name, array in found.items()}


def _chosen(predictions: Predictions, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of the best images, of typical ones (one each of at most 8 classes), and of the worst mistakes.

    By the loss: lowest of those classified rightly, nearest to the median of all, highest of those classified wrongly.
    """
    loss = F.cross_entropy(predictions.logits, labels, reduction="none")
    right = predictions.predicted == labels
    best = loss.masked_fill(~right, torch.inf)
    typical = (loss - loss.median()).abs().masked_fill(~right, torch.inf)
    worst = loss.argsort(descending=True, stable=True)
    return _one_of_a_class(best, labels), _one_of_a_class(typical, labels), worst[~right[worst]][:_OF_A_KIND]


def _one_of_a_class(rank: Tensor, labels: Tensor) -> Tensor:
    """The numbers of the images that rank lowest in their class, lowest first; infinite ones are left out."""
    order = rank.argsort(stable=True)
    firsts = [order[labels[order] == label][:1] for label in labels.unique()]
    lowest = torch.cat(firsts)
    lowest = lowest[rank[lowest].isfinite()]
    return lowest[rank[lowest].argsort(stable=True)][:_OF_A_KIND]


def _rotation_sweep(trial: TrialSpec, fixed: FixedDataset, network: Network, runtime: Runtime) -> Arrays:
    """One digit rotated by 360 degrees in steps, distorted for the rest as the dataset's first image is."""
    shown = (fixed.digits.labels == _UNMISTAKABLE).int().argmax()
    others = torch.arange(len(fixed.sources))[:_FEW]  # to cut clutter from
    few = fixed.digits.subset(torch.cat([shown[None], others]))
    images = []
    for angle in _ANGLES:
        degrees = angle if angle <= 180 else angle - 360
        at_angle = trial.dataset.changed(rotation=(degrees, degrees))
        images.append(make_fixed_dataset(at_angle, few, "test")[0].images[0])
    seen = _seen(trial, network, torch.stack(images), few.labels[:1].expand(len(images)), runtime)
    return seen | {"angle": np.array(_ANGLES)}


def _bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().byte()

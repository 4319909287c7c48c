"""What a trial's pictures are drawn from: a few images, and what its network makes of them, as arrays.

Evaluation is imported where there is something to draw.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.data.datasets import FixedDataset, make_fixed_dataset
from stn_train.errors import UserError
from stn_train.experiment.runtime import Runtime
from stn_train.models.network import Network, precision_on
from stn_train.run_folder import Gallery, TrialFolder, numbered
from stn_train.specs import TrialSpec

if TYPE_CHECKING:
    from stn_train.evaluation.classify import Predictions

Arrays = dict[str, NDArray[Any]]

_OF_A_KIND = 8
_FEW = 10
_UNMISTAKABLE = "4"
"""A class whose digits look like no other, nor like their own, when they are turned; of other images, the first."""
_ANGLES = range(0, 360, 15)
_NOT_STEERED = {"identity", "oracle"}
"""Where theta comes from that no localisation network predicts: there is nothing to draw."""
_CONSTANT = {"image", "label"}
"""What does not change from frame to frame of an animation."""


def gallery(
    trial: TrialSpec, runtime: Runtime, network: Network, fixed: FixedDataset, predictions: "Predictions"
) -> dict[Gallery, Arrays]:
    """The arrays of the pictures of a network, by their kind (see run_folder).

    None without a transformer at the input that a localisation network steers. All but `training`, which grows epoch by
    epoch. predictions: of the fixed images.
    """
    if network.transformer is None or network.pose in _NOT_STEERED:
        return {}
    from stn_train.evaluation.classify import class_means

    chosen = chosen_images(predictions, fixed.labels)
    index = torch.cat(chosen)
    kinds = np.repeat(range(len(chosen)), [len(kind) for kind in chosen])
    network.eval()
    means = class_means(network.front, fixed.images, fixed.labels, trial.classes, runtime.device)
    image, output = ((mean.clamp(0, 1) * 255).round().byte().numpy() for mean in means)
    found: dict[Gallery, Arrays] = {
        "examples": seen(trial, runtime, network, fixed.images[index], fixed.labels[index]) | {"kind": kinds},
        "means": {"image": image, "output": output},
    }
    if not trial.dataset.addition:
        # One digit rotated by 360 degrees in steps, distorted for the rest as the dataset's first image is.
        labels = fixed.digits.labels
        names = trial.source.classes
        shown = (labels == (names.index(_UNMISTAKABLE) if _UNMISTAKABLE in names else 0)).int().argmax()
        others = torch.arange(len(labels))[:_FEW]  # to cut clutter from
        few = fixed.digits.subset(torch.cat([shown[None], others]))
        images = []
        for angle in _ANGLES:
            degrees = angle if angle <= 180 else angle - 360
            at_angle = trial.dataset.changed(rotation=(degrees, degrees))
            images.append(make_fixed_dataset(at_angle, few, "test")[0].images[0])
        turned = seen(trial, runtime, network, torch.stack(images), few.labels[:1].expand(len(images)))
        found["rotation_sweep"] = turned | {"angle": np.array(_ANGLES)}
    return found


def chosen_images(predictions: "Predictions", labels: Tensor) -> list[Tensor]:
    """The numbers of the best images, of typical ones (one each of at most 8 classes), and of the worst mistakes.

    By the loss: lowest of those classified rightly, nearest to the median of all, highest of those classified wrongly.
    """
    loss = F.cross_entropy(predictions.logits, labels, reduction="none")
    right = predictions.predicted == labels
    chosen = []
    for rank in (loss, (loss - loss.median()).abs()):
        # The one of each class that ranks lowest, lowest first, of those classified rightly.
        rank = rank.masked_fill(~right, torch.inf)
        order = rank.argsort(stable=True)
        order = order[rank[order].isfinite()]
        lowest = torch.cat([order[labels[order] == label][:1] for label in labels.unique()])
        chosen.append(lowest[rank[lowest].argsort(stable=True)][:_OF_A_KIND])
    worst = loss.argsort(descending=True, stable=True)
    return [*chosen, worst[~right[worst]][:_OF_A_KIND]]


def seen(trial: TrialSpec, runtime: Runtime, network: Network, images: Tensor, labels: Tensor) -> Arrays:
    """Images, what every transformer at the input makes of them, and the classes that the network predicts."""
    from stn_train.evaluation.classify import classify, outputs_and_outlines

    assert isinstance(network.transformer, nn.Module)
    precision = precision_on(runtime.device, trial.training)
    warped = outputs_and_outlines(network.transformer, images, runtime.device)
    found = {
        "image": images,
        **numbered("output", [(output.clamp(0, 1) * 255).round().byte() for output, _ in warped]),
        **numbered("outline", [outline for _, outline in warped if outline is not None]),
        "label": labels,
        "predicted": classify(network, images, runtime.device, precision, tta_angles=trial.model.tta_angles).predicted,
    }
    return {name: array.numpy() for name, array in found.items()}


# --- the animation of a training --------------------------------------------------------------------------------------


def snapshot(
    trial: TrialSpec, runtime: Runtime, network: Network, fixed: FixedDataset, epoch: int, frames: Arrays
) -> Arrays:
    """The frames of the animation so far (none: {}), and one more: what a network makes of a few images after `epoch`.

    They are the first fixed image of each class; see run_folder. Empty where `gallery` is.
    """
    if network.transformer is None or network.pose in _NOT_STEERED:
        return {}
    classes = fixed.labels.unique()[:_FEW]
    index = torch.stack([(fixed.labels == label).nonzero()[0, 0] for label in classes])
    found = seen(trial, runtime, network, fixed.images[index], fixed.labels[index]) | {"epoch": np.array(epoch)}
    for name in found.keys() - _CONSTANT:
        frame = found[name][None]
        found[name] = np.concatenate([frames[name], frame]) if frames else frame
    return found


def frames_until(epoch: int, folder: TrialFolder, before: Arrays) -> Arrays:
    """The frames that a trial's folder has up to this epoch; `before`, the one before training, where it has none."""
    try:
        kept = folder.load_gallery(["training"]).get("training")
    except UserError:  # no training is lost for a picture
        return before
    if kept is None:
        return before
    frames = int(np.sum(kept["epoch"].astype(int) <= epoch))
    return {name: array if name in _CONSTANT else array[:frames] for name, array in kept.items()}

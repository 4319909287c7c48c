"""What a trial's pictures are drawn from: a few images, and what its network makes of them, as arrays."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.data.datasets import FixedDataset, make_fixed_dataset
from stn_train.data.sources import Digits
from stn_train.evaluation.classify import Predictions, classify
from stn_train.evaluation.variance import class_means
from stn_train.evaluation.warps import sights
from stn_train.experiment.runtime import Runtime, TrialData
from stn_train.models.build import at_input
from stn_train.models.precision import precision_on
from stn_train.run_folder import Gallery, numbered
from stn_train.specs import TrialSpec

Arrays = dict[str, Tensor]

_OF_A_KIND = 8
_FEW = 10
_UNMISTAKABLE = 4
"""A class whose digits look like no other, nor like their own, when they are turned."""
_ANGLES = range(0, 360, 15)


def has_gallery(trial: TrialSpec) -> bool:
    """Whether there is a transformer to draw: one at the input, that a localisation network steers."""
    transformer = trial.model.transformer
    return transformer is not None and 0 in transformer.before and transformer.pose in ("predicted", "supervised")


def gallery(
    trial: TrialSpec,
    runtime: Runtime,
    network: nn.Sequential,
    problem: TrialData,
    predictions: Predictions,
    history: Sequence[Arrays],
) -> dict[Gallery, Arrays]:
    """The arrays of every picture that there is of a trial, by its kind (see run_folder); none without transformers.

    predictions: of the fixed images. history: what `snapshot` has seen before training and after each epoch.
    """
    if not has_gallery(trial):
        return {}
    variant = problem.variant
    front, classes = _front(network), trial.dataset.classes
    chosen = _chosen(predictions, variant.labels)
    index = torch.cat(chosen)
    kinds = torch.arange(len(chosen)).repeat_interleave(torch.tensor([len(kind) for kind in chosen]))
    means = class_means(front, variant.images, variant.labels, classes, runtime.device)
    first = _first_of_each_class(variant)
    found: dict[Gallery, Arrays] = {
        "examples": _seen(trial, network, variant.images[index], variant.labels[index], runtime) | {"kind": kinds},
        "means": dict(zip(("image", "output"), map(_bytes, means), strict=True)),
        "training": {
            "image": variant.images[first],
            "label": variant.labels[first],
            **{name: torch.stack([frame[name] for frame in history]) for name in history[0]},
        },
    }
    if trial.dataset.channels == 1:
        found["rotation_sweep"] = _rotation_sweep(trial, variant, network, runtime)
    return found


def snapshot(trial: TrialSpec, runtime: Runtime, network: nn.Sequential, problem: TrialData) -> Arrays:
    """What a network makes of the first fixed image of each class, for the picture of its training."""
    index = _first_of_each_class(problem.variant)
    seen = _seen(trial, network, problem.variant.images[index], problem.variant.labels[index], runtime)
    return {name: array for name, array in seen.items() if name not in ("image", "label")}


def _front(network: nn.Module) -> nn.Module:
    front = at_input(network)
    assert front is not None
    return front


def _seen(
    trial: TrialSpec, network: nn.Sequential, images: Tensor, labels: Tensor, runtime: Runtime
) -> dict[str, Tensor]:
    """Images, what every transformer at the input makes of them, and what the network takes them for."""
    seen, precision = sights(_front(network), images, runtime.device), precision_on(runtime.device, trial.training)
    return {
        "image": images,
        **numbered("output", [_bytes(sight.output) for sight in seen]),
        **numbered("outline", [sight.outline for sight in seen if sight.outline is not None]),
        "label": labels,
        "predicted": classify(network, images, runtime.device, precision, tta_angles=trial.model.tta_angles).predicted,
    }


def _chosen(predictions: Predictions, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of the best images, of typical ones (of as many classes as there are), and of the worst mistakes.

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


def _first_of_each_class(variant: FixedDataset) -> Tensor:
    """The number of the first fixed image of each class, up to ten."""
    classes = variant.labels.unique()[:_FEW]
    return torch.stack([(variant.labels == label).nonzero()[0, 0] for label in classes])


def _rotation_sweep(trial: TrialSpec, variant: FixedDataset, network: nn.Sequential, runtime: Runtime) -> Arrays:
    """One digit rotated by 360 degrees in steps, distorted for the rest as the dataset's first image is."""
    labels = variant.source_labels
    shown = (labels == _UNMISTAKABLE).int().argmax()
    others = torch.arange(len(labels))[:_FEW]  # to cut clutter from
    few = Digits(variant.sources, labels).subset(torch.cat([shown[None], others]))
    images = []
    for angle in _ANGLES:
        degrees = angle if angle <= 180 else angle - 360
        at_angle = trial.dataset.changed(rotation=(degrees, degrees))
        turned, *_ = make_fixed_dataset(at_angle, few, "test")
        images.append(turned.images[0])
    seen = _seen(trial, network, torch.stack(images), few.labels[:1].expand(len(images)), runtime)
    return seen | {"angle": torch.tensor(_ANGLES)}


def _bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().byte()

"""From a model's specification to a network, its width fitted to a parameter budget."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stn_train.errors import UserError, first_line
from stn_train.geometry import FAMILIES, Family, thin_plate_spline
from stn_train.models.blocks import Expected, by
from stn_train.models.classifiers import CLASSIFIERS
from stn_train.models.insert import NoPlaceError, insert_transformer
from stn_train.models.localisation import LOCALISATIONS
from stn_train.models.network import Network
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer
from stn_train.models.user_classifier import Classifier, called, line_of, load_classifier, natural_width, takes_width
from stn_train.specs import ModelSpec, TransformerSpec

TOLERANCE = 0.02
_MOST_EIGHTHS = 40_000


class BudgetError(UserError):
    """No width gives a model the parameters that it should have."""


Image = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True)
class ModelSize:
    """How large a model is: its classifier's `width`, its `parameters`, and its `macs` for one image at all TTA angles.

    The width is None for a classifier that has none. `any_size` says that it takes images of other sizes, too.
    """

    width: float | None
    parameters: int
    macs: int
    any_size: bool


def family_of(spec: TransformerSpec) -> Family:
    """The family that a transformer's specification names."""
    return thin_plate_spline(spec.control_points) if spec.family == "tps" else FAMILIES[spec.family]


def supersampling_of(spec: TransformerSpec, size: tuple[int, int]) -> int:
    """How many points along each side a pixel of the output is the mean of, for images of this size (H, W).

    `auto` is as many as the image has pixels for one of the output, to the nearest whole number from 1 to 4, of the
    side where there are more: 2 for the paper's RTS, TC and addition, 1 for its other datasets.
    """
    if spec.supersampling != "auto":
        return spec.supersampling
    pixels = max(have / put_out for have, put_out in zip(size, spec.output_size, strict=True))
    return min(max(int(pixels + 0.5), 1), 4)


def build_model(
    spec: ModelSpec, size: tuple[int, int], parameters: int | None = None, channels: int = 1, classes: int = 10
) -> Network:
    """Build a model for images of `channels` and `size` (H, W), freshly initialised from torch's generator.

    With `parameters`, the classifier's width is chosen so that the whole network, transformers included, has as many,
    within 2 %. The network refuses images of other channels, and of another size where a layer of its is made for one
    size. Raises UserError as `measure_model` does.
    """
    measured = measure_model(spec, size, parameters, channels, classes)
    width = None if parameters is None else measured.width
    network = _build(spec, _classifier(spec), width, (channels, *size), classes)
    network.register_forward_pre_hook(Expected("the network", channels, None if measured.any_size else size))
    return network


def measure_model(
    spec: ModelSpec, size: tuple[int, int], parameters: int | None = None, channels: int = 1, classes: int = 10
) -> ModelSize:
    """How large the network is that `build_model` builds; the same arguments are measured once.

    Raises UserError where no width meets the budget, where a part of the network cannot work on so small an image, or
    where a classifier of the user's cannot be had, or not be trained.
    """
    try:
        return _measure(spec, _classifier(spec), (channels, *size), parameters, classes)
    except BudgetError:
        raise
    except (Exception, SystemExit) as error:
        reason = first_line(error)
        if not isinstance(error, UserError | RuntimeError):
            if spec.classifier in CLASSIFIERS:
                raise  # a mistake of ours
            reason = f"{type(error).__name__}: {reason}"
        raise UserError(
            f"model {spec.name} cannot be built for images of {size[0]} x {size[1]} pixels: {reason}"
            f"{line_of(spec.classifier, error)}"
        ) from error


def _classifier(spec: ModelSpec) -> Classifier:
    return CLASSIFIERS[spec.classifier] if spec.classifier in CLASSIFIERS else load_classifier(spec.classifier)


@lru_cache(maxsize=1024)
def _measure(spec: ModelSpec, classifier: Classifier, image: Image, parameters: int | None, classes: int) -> ModelSize:
    """Ours are measured on `meta`, which computes nothing; a user's on the CPU, where anybody's code runs."""
    ours = spec.classifier in CLASSIFIERS
    fitted = None if parameters is None else _fitted_width(spec, classifier, image, parameters, classes)
    width = natural_width(classifier) if fitted is None else fitted
    shape = (1, *image)
    with torch.random.fork_rng(devices=[]), torch.device("meta" if ours else "cpu"):
        network = _build(spec, classifier, fitted, image, classes)
        if not ours:
            _check_trainable(network, (2, *image), classes)
        macs = _macs(network, shape, classes)
        any_size = _takes(network, (1, image[0], 2 * image[1], 2 * image[2]))
    macs *= 1 + len(spec.tta_angles)
    return ModelSize(width, _count(network), macs, any_size)


def _fitted_width(spec: ModelSpec, classifier: Classifier, image: Image, parameters: int, classes: int) -> float | None:
    """The width, in eighths, whose network's parameter count is nearest to the budget; the count rises with it.

    None for a classifier that has none. A control has the width of the model that it is a control of. Raises UserError
    where the count is not within 2 % of the budget.
    """
    if spec.transformer is not None:
        spec = spec.changed(transformer=spec.transformer.changed(pose="predicted"))

    def count(eighths: int | None) -> int:
        with torch.device("meta"):
            return _count(_build(spec, classifier, None if eighths is None else eighths / 8, image, classes))

    fitted = None
    if takes_width(classifier):
        above = bisect_left(range(_MOST_EIGHTHS), parameters, lo=8, key=count)
        fitted = min((max(above - 1, 8), above), key=lambda eighths: abs(count(eighths) - parameters))
    found = count(fitted)
    if abs(found - parameters) > TOLERANCE * parameters:
        why = (
            "its classifier takes no width, and so it has" if fitted is None else "the nearest that its width allows is"
        )
        raise BudgetError(
            f"model {spec.name} cannot have {parameters:,} parameters within {100 * TOLERANCE:g} %: {why} {found:,}"
        )
    return None if fitted is None else fitted / 8


def _build(spec: ModelSpec, classifier: Classifier, width: float | None, image: Image, classes: int) -> Network:
    transformer, (channels, *size) = spec.transformer, image
    height, breadth = size
    stages: list[nn.Module] = []
    if transformer is not None:
        for _ in range(transformer.before.count(0)):
            stages.append(_stage(transformer, (height, breadth), channels))
            (height, breadth), channels = transformer.output_size, channels * transformer.parallel
    front = (stages[0] if len(stages) == 1 else nn.Sequential(*stages)) if stages else None
    wide = {} if width is None else {"width": width}
    built = called(spec.classifier, classifier, size=(height, breadth), channels=channels, classes=classes, **wide)
    network = Network(front, built, transformer.pose if transformer else "predicted")
    if transformer is not None:
        for layer in filter(None, transformer.before):
            _insert(network, transformer, layer, image)
    return network


def _insert(network: Network, spec: TransformerSpec, layer: int, image: Image) -> None:
    """Put a transformer before the k-th layer, the k-th part in order of definition, of the network's classifier."""
    layers = [name for name, _ in network.classifier.named_children()]
    if layer >= len(layers):
        raise UserError(f"transformer.before is {layer}, and the classifier's layers are 0 to {len(layers) - 1}")
    try:
        insert_transformer(
            network,
            image=image,
            before=f"classifier.{layers[layer]}",
            family=family_of(spec),
            localisation=spec.localisation,
        )
    except NoPlaceError as error:
        raise UserError(
            f"transformer.before is {layer}, and no transformer can stand before layer {layer} of the classifier: "
            f"{error.reason}; choose another of its layers, of which 0 is the input"
        ) from error


def _stage(spec: TransformerSpec, size: tuple[int, int], channels: int) -> nn.Module:
    """One transformer at the input, or several in parallel, for images of this size (H, W)."""
    family, localise = family_of(spec), LOCALISATIONS[spec.localisation]
    transformers = [
        SpatialTransformer(
            localise(family, size, channels), family, spec.output_size, supersampling=supersampling_of(spec, size)
        )
        for _ in range(spec.parallel)
    ]
    return transformers[0] if len(transformers) == 1 else ParallelTransformers(transformers)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _takes(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a network takes images of this shape: no layer of its is made for another size."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(shape))
    except (Exception, SystemExit):  # whatever a classifier of the user's raises
        return False
    return True


def _check_trainable(network: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Raise UserError where a network of a classifier of the user's cannot be trained."""
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):  # what is averaged, and steps, must be
            raise UserError(f"{name} holds numbers that are not finite; a mask of such numbers has to be a buffer")
    logits = network.train()(torch.zeros(shape))
    _check_logits(logits, classes, images=shape[0])
    if not logits.requires_grad:
        raise UserError("its logits depend on no parameter that can be trained")
    F.cross_entropy(logits, torch.zeros(shape[0], dtype=torch.int64)).backward()


def _check_logits(logits: object, classes: int, images: int = 1) -> None:
    """Raise UserError where a network does not put out a floating-point number for each image and class."""
    if not isinstance(logits, torch.Tensor) or logits.shape != (images, classes):
        found = by(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        each = "one image" if images == 1 else f"{images} images"
        raise UserError(f"its classifier puts out {found} for {each}; expected {images} x {classes}")
    if not logits.is_floating_point():
        raise UserError(f"its classifier puts out logits of {logits.dtype}; expected floating-point numbers")


def _macs(network: nn.Module, shape: tuple[int, ...], classes: int) -> int:
    """Multiplications with addition in convolutions and matrix products for one input of this shape.

    Raises UserError where it does not put out a logit for each class.
    """
    network.eval()
    with torch.no_grad():
        _check_logits(network(torch.zeros(shape)), classes)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(shape))
    return int(counter.get_total_flops()) // 2

"""From a model's specification to a network, its width fitted to a parameter budget."""

import inspect
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
from stn_train.models.localisation import LOCALISATIONS
from stn_train.models.network import Network
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer
from stn_train.models.user_classifier import Classifier, line_of, load_classifier
from stn_train.specs import ModelSpec, TransformerSpec

TOLERANCE = 0.02
_MOST_EIGHTHS = 40_000


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
    # A control has the width of the model that it is a control of.
    model = spec
    if spec.transformer is not None and spec.pose != "predicted":
        model = spec.changed(transformer=spec.transformer.changed(pose="predicted"))
    try:
        classifier, image = _classifier(spec), (channels, *size)
        width = None if parameters is None else _fitted_width(model, classifier, image, parameters, classes)
        found = _measure(model, classifier, image, width, classes)
        measured = found if model is spec else _measure(spec, classifier, image, width, classes)
    except (Exception, SystemExit) as error:
        raise _explained(spec, size, error) from error
    if parameters is not None and abs(found.parameters - parameters) > TOLERANCE * parameters:
        why = (
            "its classifier takes no width, and so it has" if width is None else "the nearest that its width allows is"
        )
        raise UserError(
            f"model {spec.name} cannot have {parameters:,} parameters within {100 * TOLERANCE:g} %: {why} "
            f"{found.parameters:,}"
        )
    return measured


def _explained(spec: ModelSpec, size: tuple[int, int], error: BaseException) -> BaseException:
    """What keeps a model from being built, as a UserError; a mistake of ours as it is."""
    reason = first_line(error)
    if not isinstance(error, UserError | RuntimeError):
        if spec.classifier in CLASSIFIERS:
            return error
        reason = f"{type(error).__name__}: {reason}"
    return UserError(
        f"model {spec.name} cannot be built for images of {size[0]} x {size[1]} pixels: {reason}"
        f"{line_of(spec.classifier, error)}"
    )


def _classifier(spec: ModelSpec) -> Classifier:
    return CLASSIFIERS[spec.classifier] if spec.classifier in CLASSIFIERS else load_classifier(spec.classifier)


@lru_cache(maxsize=1024)
def _fitted_width(spec: ModelSpec, classifier: Classifier, image: Image, parameters: int, classes: int) -> float | None:
    """The width, in eighths, whose network's parameter count is nearest to the budget; the count rises with it.

    None for a classifier that has none.
    """
    if "width" not in inspect.signature(classifier).parameters:
        return None

    def missing(eighths: int) -> int:
        with torch.device("meta"):
            return parameters - _count(_build(spec, classifier, eighths / 8, image, classes))

    above = bisect_left(range(_MOST_EIGHTHS), 0, lo=8, key=lambda eighths: -missing(eighths))
    return min((max(above - 1, 8), above), key=lambda eighths: abs(missing(eighths))) / 8


@lru_cache(maxsize=1024)
def _measure(spec: ModelSpec, classifier: Classifier, image: Image, width: float | None, classes: int) -> ModelSize:
    """Ours are measured on `meta`, which computes nothing; a user's on the CPU, where anybody's code runs."""
    told = _natural_width(classifier) if width is None else width
    ours, larger = spec.classifier in CLASSIFIERS, (1, image[0], 2 * image[1], 2 * image[2])
    with torch.random.fork_rng(devices=[]), torch.device("meta" if ours else "cpu"):
        network = _build(spec, classifier, width, image, classes)
        if not ours:
            _check_trainable(network, image, classes)
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, *image))  # what is computed once for all is computed before it is counted
            with FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, *image))
            try:
                network(torch.zeros(larger))
                any_size = True
            except (Exception, SystemExit):  # whatever a classifier of the user's raises
                any_size = False
    macs = counter.get_total_flops() // 2 * (1 + len(spec.tta_angles))
    return ModelSize(told, _count(network), macs, any_size)


def _natural_width(classifier: Classifier) -> float | None:
    """The width that a classifier has where none is asked for: its default, or None where that is no number.

    Raises UserError where it has to be given one.
    """
    width = inspect.signature(classifier).parameters.get("width")
    if width is not None and width.default is inspect.Parameter.empty:
        raise UserError("its classifier has no default for width; give it one, or the experiment a budget: parameters")
    return float(width.default) if width is not None and isinstance(width.default, int | float) else None


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
    network = Network(front, classifier(size=(height, breadth), channels=channels, classes=classes, **wide), spec.pose)
    if transformer is not None:
        for layer in filter(None, transformer.before):
            _insert(network, transformer, layer, image)
    return network


def _insert(network: Network, spec: TransformerSpec, layer: int, image: Image) -> None:
    """Put a transformer before the k-th layer, the k-th part in order of definition, of the network's classifier."""
    from stn_train.models.insert import NoPlaceError, insert_transformer

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


def _check_trainable(network: nn.Module, image: Image, classes: int) -> None:
    """Raise UserError where a network of a classifier of the user's cannot be trained."""
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):  # what is averaged, and steps, must be
            raise UserError(f"{name} holds numbers that are not finite; a mask of such numbers has to be a buffer")
    logits = network.train()(torch.zeros(2, *image))
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
        found = by(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"its classifier puts out {found} for 2 images; expected 2 x {classes}")
    if not logits.is_floating_point():
        raise UserError(f"its classifier puts out logits of {logits.dtype}; expected floating-point numbers")
    if not logits.requires_grad:
        raise UserError("its logits depend on no parameter that can be trained")
    F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64)).backward()

"""From a model's specification to a network, its width fitted to a parameter budget."""

import copy
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stn_train.errors import UserError, first_line
from stn_train.geometry import FAMILIES, Family, thin_plate_spline
from stn_train.models.classifiers import CLASSIFIERS
from stn_train.models.inputs import Expected, by
from stn_train.models.insert import NoPlaceError, insert_transformer
from stn_train.models.localisation import LOCALISATIONS
from stn_train.models.oracle import freeze, supervise_pose, supply_pose
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer
from stn_train.models.user_classifier import Classifier, line_of, load_classifier, natural_width, takes_width
from stn_train.specs import ModelSpec, TransformerSpec

TOLERANCE = 0.02
_MOST_EIGHTHS = 40_000
_WIDTHS: dict[tuple[ModelSpec, tuple[int, int], int, int, int], float] = {}
"""The widths that were fitted, by all that they depend on: each is found once, however many seeds there are."""


@dataclass(frozen=True)
class Model:
    """A network with its size: `parameters`, `macs` for one image in all its turns, the classifier's `width`.

    The network's part `classifier` is the classifier; `transformer`, where it has that part, is what stands at its
    input (see `at_input`). It refuses images of other channels, and of another size where a layer of its is made for
    one size. The width is None for a classifier that has none.
    """

    network: nn.Sequential
    width: float | None
    parameters: int
    macs: int


def at_input(network: nn.Module) -> nn.Module | None:
    """What stands at a network's input: a SpatialTransformer, a ParallelTransformers, several in a row, or nothing."""
    found = getattr(network, "transformer", None)
    return found if isinstance(found, nn.Module) else None


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
    spec: ModelSpec, canvas: tuple[int, int], parameters: int | None = None, channels: int = 1, classes: int = 10
) -> Model:
    """Build a model for images of `channels` and `canvas` (H, W), freshly initialised from torch's generator.

    With `parameters`, the classifier's width is chosen so that the whole network, transformers included, has as many,
    within 2 %. Raises UserError where no width does, where a part of the network cannot work on so small a canvas, or
    where a classifier of the user's cannot be had, or not be trained.
    """
    ours = spec.classifier in CLASSIFIERS
    classifier: Classifier = CLASSIFIERS[spec.classifier] if ours else load_classifier(spec.classifier)

    def build(width: float | None) -> nn.Sequential:
        return _build(spec, classifier, width, canvas, channels, classes)

    with _explaining(spec, canvas):
        fitted = None
        if parameters is not None and takes_width(classifier):
            known = (spec, canvas, parameters, channels, classes)
            fitted = _WIDTHS.get(known) or _fit_width(build, parameters)
            if ours:  # another's code may change
                _WIDTHS[known] = fitted
        width = natural_width(classifier) if fitted is None else fitted
        network = build(fitted)
        _check_finite(network)
        macs = _macs(network, (1, channels, *canvas), classes)
    count = _count(network)
    if parameters is not None and abs(count - parameters) > TOLERANCE * parameters:
        why = (
            "its classifier takes no width, and so it has" if fitted is None else "the nearest that its width allows is"
        )
        raise UserError(
            f"model {spec.name} cannot have {parameters:,} parameters within {100 * TOLERANCE:g} %: {why} {count:,}"
        )
    if spec.transformer is not None and spec.transformer.pose != "predicted":
        transformer = at_input(network)
        assert isinstance(transformer, SpatialTransformer)
        {"identity": freeze, "supervised": supervise_pose, "oracle": supply_pose}[spec.transformer.pose](transformer)
        count, macs = _count(network), _macs(network, (1, channels, *canvas), classes)
    if not ours:
        with _explaining(spec, canvas):
            _try_step(network, (2, channels, *canvas), classes)
    size = None if _takes(network, (1, channels, 2 * canvas[0], 2 * canvas[1])) else canvas
    network.register_forward_pre_hook(Expected("the network", channels, size))
    return Model(network, width, count, macs * (1 + len(spec.tta_angles)))


@contextmanager
def _explaining(spec: ModelSpec, canvas: tuple[int, int]) -> Iterator[None]:
    """What keeps a model from being built, told in one sentence."""
    try:
        yield
    except (Exception, SystemExit) as error:
        reason = first_line(error)
        if not isinstance(error, UserError | RuntimeError):
            if spec.classifier in CLASSIFIERS:
                raise  # a mistake of ours
            reason = f"{type(error).__name__}: {reason}"
        raise UserError(
            f"model {spec.name} cannot be built for a canvas of {canvas[0]} x {canvas[1]} pixels: {reason}"
            f"{line_of(spec.classifier, error)}"
        ) from error


def _build(
    spec: ModelSpec,
    classifier: Classifier,
    width: float | None,
    canvas: tuple[int, int],
    channels: int,
    classes: int,
) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    transformer, size, deep = spec.transformer, canvas, channels
    if transformer is not None and 0 in transformer.before:
        stages: list[nn.Module] = []
        for _ in range(transformer.before.count(0)):
            stages.append(_stage(transformer, size, deep))
            size, deep = transformer.output_size, deep * transformer.parallel
        parts["transformer"] = stages[0] if len(stages) == 1 else nn.Sequential(*stages)
    wide = {} if width is None else {"width": width}
    parts["classifier"] = classifier(size=size, channels=deep, classes=classes, **wide)
    network = nn.Sequential(parts)
    if transformer is not None:
        for layer in filter(None, transformer.before):
            _insert(network, transformer, layer, (channels, *canvas))
    return network


def _insert(network: nn.Sequential, spec: TransformerSpec, layer: int, image: tuple[int, int, int]) -> None:
    """Put a transformer before the k-th layer, the k-th part in order of definition, of the network's classifier."""
    layers = [name for name, _ in network[-1].named_children()]
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
    """One transformer at the input, or several side by side, for images of this size (H, W)."""
    family, localise = family_of(spec), LOCALISATIONS[spec.localisation]
    transformers = [
        SpatialTransformer(
            localise(family, size, channels), family, spec.output_size, supersampling=supersampling_of(spec, size)
        )
        for _ in range(spec.parallel)
    ]
    return transformers[0] if len(transformers) == 1 else ParallelTransformers(transformers)


def _check_finite(network: nn.Module) -> None:
    """Raise UserError where a parameter is not finite: what is averaged, and steps, must be."""
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UserError(f"{name} holds numbers that are not finite; a mask of such numbers has to be a buffer")


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _fit_width(build: Callable[[float], nn.Module], parameters: int) -> float:
    """The width, in eighths, whose network's parameter count is nearest to the budget; the count rises with it."""

    def count(eighths: int) -> int:
        with torch.device("meta"):
            return _count(build(eighths / 8))

    above = bisect_left(range(_MOST_EIGHTHS), parameters, lo=8, key=count)
    return min((max(above - 1, 8), above), key=lambda eighths: abs(count(eighths) - parameters)) / 8


def _takes(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a network takes images of this shape: no layer of its is made for another size."""
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(shape))
    except (Exception, SystemExit):  # whatever a classifier of the user's raises
        return False
    finally:
        network.train()
    return True


def _try_step(network: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Raise UserError where a network of a classifier of the user's cannot be trained: a step is tried on a copy."""
    with torch.random.fork_rng(devices=[]):
        logits = copy.deepcopy(network).train()(torch.zeros(shape))
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
    network.train()
    return int(counter.get_total_flops()) // 2

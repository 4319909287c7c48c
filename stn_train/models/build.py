"""From a model's specification to a network, its width fitted to a parameter budget."""

import inspect
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stn_train.errors import UserError, first_line
from stn_train.geometry import FAMILIES, Family, thin_plate_spline
from stn_train.models.blocks import by, check_images
from stn_train.models.classifiers import CLASSIFIERS, Classifier, line_of, load_classifier
from stn_train.models.localisation import LOCALISATIONS
from stn_train.models.network import Network
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer
from stn_train.specs import ModelSpec

TOLERANCE = 0.02
_MOST_EIGHTHS = 40_000

Image = tuple[int, int, int]
"""Channels, height and width."""


class BudgetError(UserError):
    """No width of a model's classifier gives it the parameters that it is to have; `nearest` is what one gives."""

    def __init__(self, sentence: str, nearest: int) -> None:
        super().__init__(sentence)
        self.nearest = nearest


@dataclass(frozen=True)
class ModelSize:
    """How large a model is: its classifier's `width`, its `parameters`, and its `macs` for one image at all TTA angles.

    The width is None for a classifier that has none. `any_size` says that it takes images of other sizes, too.
    """

    width: float | None
    parameters: int
    macs: int
    any_size: bool


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
    classifier = CLASSIFIERS.get(spec.classifier) or load_classifier(spec.classifier)
    network = _build(spec, classifier, width, (channels, *size), classes)
    expected = None if measured.any_size else size
    network.register_forward_pre_hook(partial(check_images, "the network", channels, expected))
    return network


def measure_model(
    spec: ModelSpec, size: tuple[int, int], parameters: int | None = None, channels: int = 1, classes: int = 10
) -> ModelSize:
    """How large the network is that `build_model` builds; the same arguments are measured once.

    Raises BudgetError where no width meets the budget, and UserError where a part of the network cannot work on so
    small an image, or where a classifier of the user's cannot be had, or not be trained.
    """
    try:
        classifier = CLASSIFIERS.get(spec.classifier) or load_classifier(spec.classifier)
        measured, budgeted = _measure(spec, classifier, (channels, *size), parameters, classes)
    except (Exception, SystemExit) as error:
        reason, ours = first_line(error), spec.classifier in CLASSIFIERS
        if not isinstance(error, UserError | RuntimeError):
            if ours:
                raise  # a mistake of ours
            reason = f"{type(error).__name__}: {reason}"
        raise UserError(
            f"model {spec.name} cannot be built for images of {size[0]} x {size[1]} pixels: {reason}"
            f"{line_of(spec.classifier, error)}"
        ) from error
    if parameters is not None and abs(budgeted - parameters) > TOLERANCE * parameters:
        fixed = measured.width is None
        why = "its classifier takes no width, and so it has" if fixed else "the nearest that its width allows is"
        raise BudgetError(
            f"model {spec.name} cannot have {parameters:,} parameters within {100 * TOLERANCE:g} %: {why} {budgeted:,}",
            budgeted,
        )
    return measured


@lru_cache(maxsize=1024)
def _measure(
    spec: ModelSpec, classifier: Classifier, image: Image, parameters: int | None, classes: int
) -> tuple[ModelSize, int]:
    """A model's size, and how many parameters the model has whose width it has: itself, or what it is a control of.

    Ours are measured on `meta`, which computes nothing; a user's on the CPU, where anybody's code runs.
    """
    model, ours = spec, spec.classifier in CLASSIFIERS
    if spec.transformer is not None and spec.pose != "predicted":
        model = spec.changed(transformer=spec.transformer.changed(pose="predicted"))
    has_width = inspect.signature(classifier).parameters.get("width")
    width = default = None
    if has_width is not None and parameters is not None:
        width = _fitted_width(model, classifier, image, parameters, classes)
    elif has_width is not None and has_width.default is inspect.Parameter.empty:
        raise UserError("its classifier has no default for width; give it one, or the experiment a budget: parameters")
    elif has_width is not None and isinstance(has_width.default, int | float):
        default = float(has_width.default)
    with torch.random.fork_rng(devices=[]), torch.device("meta" if ours else "cpu"):
        network = _build(spec, classifier, width, image, classes)
        fitted = network if model is spec else _build(model, classifier, width, image, classes)
        if not ours:
            _check_trainable(network, image, classes)
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, *image))  # what is computed once for all is computed before it is counted
            with FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, *image))
            try:
                network(torch.zeros(1, image[0], 2 * image[1], 2 * image[2]))
                any_size = True
            except (Exception, SystemExit):  # whatever a classifier of the user's raises
                any_size = False
    macs = counter.get_total_flops() // 2 * (1 + len(spec.tta_angles))
    count, budgeted = (sum(parameter.numel() for parameter in each.parameters()) for each in (network, fitted))
    return ModelSize(default if width is None else width, count, macs, any_size), budgeted


def _fitted_width(spec: ModelSpec, classifier: Classifier, image: Image, parameters: int, classes: int) -> float:
    """The width, in eighths, whose network's parameter count is nearest to the budget; the count rises with it."""
    lowest, highest = 8, _MOST_EIGHTHS
    missing: dict[int, int] = {}
    while lowest < highest:
        eighths = (lowest + highest) // 2
        with torch.device("meta"):
            network = _build(spec, classifier, eighths / 8, image, classes)
        missing[eighths] = parameters - sum(parameter.numel() for parameter in network.parameters())
        if missing[eighths] > 0:
            lowest = eighths + 1
        else:
            highest = eighths
    return min((abs(missing[eighths]), eighths) for eighths in (lowest - 1, lowest) if eighths in missing)[1] / 8


def _build(spec: ModelSpec, classifier: Classifier, width: float | None, image: Image, classes: int) -> Network:
    channels, height, breadth = image
    wide = {} if width is None else {"width": width}
    transformer = spec.transformer
    if transformer is None:
        return Network(None, classifier(size=(height, breadth), channels=channels, classes=classes, **wide))
    tps = transformer.family == "tps"
    family = thin_plate_spline(transformer.control_points) if tps else FAMILIES[transformer.family]
    localise, output = LOCALISATIONS[transformer.localisation], transformer.output_size
    stages: list[nn.Module] = []
    for _ in range(transformer.before.count(0)):
        # auto: the image's pixels for one of the output, of the side where there are more
        pixels = min(max(int(max(height / output[0], breadth / output[1]) + 0.5), 1), 4)
        asked = transformer.supersampling
        supersampling = pixels if isinstance(asked, str) else asked
        parallel = [
            SpatialTransformer(
                localise(family, (height, breadth), channels), family, output, supersampling=supersampling
            )
            for _ in range(transformer.parallel)
        ]
        stages.append(parallel[0] if len(parallel) == 1 else ParallelTransformers(parallel))
        (height, breadth), channels = output, channels * len(parallel)
    front = (stages[0] if len(stages) == 1 else nn.Sequential(*stages)) if stages else None
    channels += 2 * transformer.coordinates
    classify = classifier(size=(height, breadth), channels=channels, classes=classes, **wide)
    network = Network(front, classify, spec.pose, transformer.coordinates)
    for layer in filter(None, transformer.before):
        _insert(network, family, transformer.localisation, layer, image)
    return network


def _insert(network: Network, family: Family, localisation: str, layer: int, image: Image) -> None:
    """Put a transformer before the k-th layer, the k-th part in order of definition, of the network's classifier."""
    from stn_train.models.insert import NoPlaceError, insert_transformer

    layers = [name for name, _ in network.classifier.named_children()]
    if layer >= len(layers):
        raise UserError(f"transformer.before is {layer}, and the classifier's layers are 0 to {len(layers) - 1}")
    before = f"classifier.{layers[layer]}"
    try:
        insert_transformer(network, image=image, before=before, family=family, localisation=localisation)
    except NoPlaceError as error:
        raise UserError(
            f"transformer.before is {layer}, and no transformer can stand before layer {layer} of the classifier: "
            f"{error.reason}; choose another of its layers, of which 0 is the input"
        ) from error


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

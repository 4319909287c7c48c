"""From a model's specification to a network, its width fitted to a parameter budget."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stn_train.errors import UserError
from stn_train.geometry import FAMILIES
from stn_train.models import classifiers, localisation
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import ModelSpec

CLASSIFIERS = {"cnn": classifiers.cnn, "cnn_paper": classifiers.cnn_paper}
LOCALISATIONS = {
    "conv": localisation.conv,
    "keypoints": localisation.keypoints,
    "conv_paper": localisation.conv_paper,
}
NATURAL_WIDTH = {"cnn": 32.0, "cnn_paper": 64.0}
TOLERANCE = 0.02
_MOST_EIGHTHS = 40_000


@dataclass(frozen=True)
class Model:
    """A network with its size: `width` of the classifier, `parameters`, and `multiply_adds` for one image."""

    network: nn.Sequential
    width: float
    parameters: int
    multiply_adds: int

    @property
    def transformer(self) -> SpatialTransformer | None:
        """The transformer at the input, where there is one."""
        return transformer_of(self.network)


def transformer_of(network: nn.Module) -> SpatialTransformer | None:
    """The transformer at a network's input, where there is one."""
    found = getattr(network, "transformer", None)
    return found if isinstance(found, SpatialTransformer) else None


def build_model(
    spec: ModelSpec, canvas: tuple[int, int], parameters: int | None = None, channels: int = 1, classes: int = 10
) -> Model:
    """Build a model for images of `channels` and `canvas` (H, W), freshly initialised from torch's generator.

    With `parameters`, the classifier's width is chosen so that the whole network, transformer included, has as many,
    within 2 %. Raises UserError where no width does, or the canvas is too small for the classifier.
    """

    def build(width: float) -> nn.Sequential:
        return _build(spec, width, canvas, channels, classes)

    try:
        width = NATURAL_WIDTH[spec.classifier] if parameters is None else _fit_width(build, spec, parameters)
        network = build(width)
        multiply_adds = _multiply_adds(network, (1, channels, *canvas))
    except RuntimeError as error:
        size = " x ".join(str(side) for side in canvas)
        raise UserError(f"model {spec.name} cannot be built for a canvas of {size} pixels: {error}") from None
    return Model(network, width, _count(network), multiply_adds)


def _build(spec: ModelSpec, width: float, canvas: tuple[int, int], channels: int, classes: int) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    size = canvas
    if spec.transformer is not None:
        family = FAMILIES[spec.transformer.family]
        localise = LOCALISATIONS[spec.transformer.localisation]
        size = spec.transformer.output
        parts["transformer"] = SpatialTransformer(localise(family, canvas, channels), family, size)
    parts["classifier"] = CLASSIFIERS[spec.classifier](width, size, channels, classes)
    return nn.Sequential(parts)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _fit_width(build: Callable[[float], nn.Module], spec: ModelSpec, parameters: int) -> float:
    """The width, in eighths, whose network's parameter count is nearest to the budget; the count rises with it."""

    def count(eighths: int) -> int:
        with torch.device("meta"):
            return _count(build(eighths / 8))

    above = bisect_left(range(_MOST_EIGHTHS), parameters, lo=8, key=count)
    best = min((max(above - 1, 8), above), key=lambda eighths: abs(count(eighths) - parameters))
    if abs(count(best) - parameters) > TOLERANCE * parameters:
        raise UserError(
            f"model {spec.name} cannot have {parameters:,} parameters within {100 * TOLERANCE:g} %: "
            f"the nearest that its width allows is {count(best):,}"
        )
    return best / 8


def _multiply_adds(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiplications with addition in convolutions and matrix products for one input of this shape."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(shape))
    network.train()
    return int(counter.get_total_flops()) // 2

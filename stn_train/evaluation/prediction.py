"""What a network makes of a single picture: probabilities, and what its transformers do to it."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.evaluation.classify import classify, outputs_and_outlines
from stn_train.geometry import Family, pixel_grid
from stn_train.models.network import Network
from stn_train.models.transformer import SpatialTransformer

_POINTS = (5, 5)
_LEAST_AREA = 1e-6
"""An area factor, of a map that shows hardly more than a line."""


@dataclass(frozen=True)
class Transformation:
    """What a transformer does to an image, as seen: it turns it, resizes it, and moves it.

    `rotation` in degrees, clockwise; `scale`: how many times as high and wide what is seen becomes, the output taken to
    be as large as the input; `x` and `y` in pixels of the input, to the right and downwards. Of a map that bends or
    projects: of the affine map nearest to it. `theta`: the numbers themselves. `output` (C x h x w), and `outline` of
    what it samples (V x 2, (x, y) in pixels of the input, the centre of the first one at (0, 0)).
    """

    rotation: float
    scale: float
    x: float
    y: float
    theta: tuple[float, ...]
    output: NDArray[np.float32]
    outline: NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What a network says of a picture; both have their names here.

    `probabilities` (classes), in the order of the `classes`' names; `image` (C x H x W, uint8): what the network read;
    `transformations`: of each transformer that reads that image; `notes`: sentences on what was left out of it.
    """

    picture: str
    network: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    image: NDArray[np.uint8]
    transformations: tuple[Transformation, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def ranking(self) -> list[tuple[str, float]]:
        """Every class and its probability, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")
        return [(self.classes[index], float(self.probabilities[index])) for index in order]

    @property
    def predicted(self) -> str:
        """The likeliest class."""
        return self.ranking[0][0]

    def as_json(self) -> dict[str, Any]:
        """It as values that JSON has, without images."""
        (predicted, probability), (runner_up, second) = self.ranking[:2]
        numbers = ("rotation", "scale", "x", "y", "theta")
        return {
            "picture": self.picture,
            "network": self.network,
            "predicted": predicted,
            "probability": probability,
            "runner_up": runner_up,
            "runner_up_probability": second,
            "probabilities": dict(zip(self.classes, self.probabilities.tolist(), strict=True)),
            "transformations": [{name: getattr(one, name) for name in numbers} for one in self.transformations],
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        (predicted, probability), (runner_up, second) = self.ranking[:2]
        shares = f"{predicted} ({100 * probability:.1f} %), then {runner_up} ({100 * second:.1f} %)"
        return f"{self.picture}: {self.network} predicts {shares}"


def predict_image(
    network: Network, image: Tensor, tta_angles: tuple[float, ...] = ()
) -> tuple[NDArray[np.float64], tuple[Transformation, ...]]:
    """The probabilities (classes) of an image, C x H x W of uint8, in float32, and what transformers make of it.

    `tta_angles`: see `classify`. The transformers are told of that read the image itself, as it is.
    """
    device = next(network.parameters()).device
    found = classify(network, image[None], device, "float32", tta_angles=tta_angles)
    transformations = []
    if network.transformer is not None:
        transformers = [each for each in network.transformer.modules() if isinstance(each, SpatialTransformer)]
        warped = outputs_and_outlines(network.transformer, image[None], device)
        for each, theta, (output, outline) in zip(transformers, found.thetas, warped, strict=False):
            if outline is not None:
                motion = _motion(each.family, theta.double(), (image.shape[1], image.shape[2]))
                numbers = tuple(theta[0].tolist())
                transformations.append(Transformation(*motion, numbers, output[0].numpy(), outline[0].numpy()))
    return found.logits[0].double().softmax(0).numpy(), tuple(transformations)


def _motion(family: Family, theta: Tensor, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Rotation, scale, x and y of a Transformation by theta, 1 x p, of an image of `size` (H, W).

    Its map is from target to source: source = A target + t, in pixels of the input. What is seen is the inverse: A^-1
    turns and resizes, and -t moves.
    """
    height, width = size
    half = theta.new_tensor([width / 2, height / 2])
    target = pixel_grid(_POINTS, theta).flatten(0, 1)
    source = family.points(theta, target, width / height)[0] * half
    affine = torch.linalg.lstsq(torch.cat([target * half, torch.ones_like(target[:, :1])], dim=1), source).solution
    (a, c), (b, d), (x, y) = affine.tolist()
    area = max(abs(a * d - b * c), _LEAST_AREA)
    return math.degrees(math.atan2(b - c, a + d)), area**-0.5, -x, -y

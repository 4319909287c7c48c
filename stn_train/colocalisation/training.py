"""A localiser, which predicts where to crop, and its training without labels.

The crops of two images shall be more alike, to an encoder of crops, than a crop and a random one.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.colocalisation.spec import LocaliserSpec
from stn_train.errors import TrialError
from stn_train.geometry import ATTENTION, TRANSLATION
from stn_train.models.localisation import LOCALISATIONS
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import DIGIT, RECIPES, Localisation, TrainingSpec
from stn_train.training.loop import scheduled_lr

_SHRINKING = 0.6
"""The share of the steps in which the crop shrinks."""


class Encoder(nn.Module):
    """From images, N x C x H x W, to descriptors of unit length, N x F. Its weights stay as they are.

    A descriptor is what comes out of every ReLU of a sequence of layers, and its logits, one behind the other (paper,
    appendix A.2). Of unit length, so that the squared distance of any two is 4 at most, whatever the network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """The descriptors."""
        activations = []
        for layer in self.network.modules():
            if isinstance(layer, nn.Sequential):
                continue  # its layers come one by one
            images = layer(images)
            if isinstance(layer, nn.ReLU):
                activations.append(images.flatten(1))
        return F.normalize(torch.cat([*activations, images], dim=1))


class Localiser(nn.Module):
    """From square images to theta, N x 3, of the attention family: (s, t_x, t_y).

    The crop's side as a share of the canvas's, s, is `size`, which whoever trains it sets: nothing in the loss holds
    it. `network` predicts theta of a translation; a tanh keeps the crop from leaving the canvas by more than half of
    `smallest`, the size that it ends with.
    """

    def __init__(self, network: nn.Module, smallest: float) -> None:
        super().__init__()
        self.network = network
        self.smallest = smallest
        self.size = smallest

    def forward(self, images: Tensor) -> Tensor:
        """Theta for images, N x C x H x H."""
        reach = 1 + self.smallest - self.size
        place = reach * torch.tanh(self.network(images))
        return torch.cat([torch.full_like(place[:, :1], self.size), place], dim=1)


def build_localiser(localisation: Localisation, canvas: tuple[int, int]) -> SpatialTransformer:
    """A transformer that crops a digit's frame of 28 x 28 pixels out of a square canvas, a Localiser inside it.

    Freshly initialised from torch's generator: it crops the middle.
    """
    network = LOCALISATIONS[localisation](TRANSLATION, canvas, 1)
    return SpatialTransformer(Localiser(network, DIGIT / canvas[0]), ATTENTION, (DIGIT, DIGIT))


def train_localiser(
    transformer: SpatialTransformer,
    encoder: Encoder,
    batches: Iterator[Tensor],
    spec: LocaliserSpec,
    seed: int,
) -> Iterator[float]:
    """Train a transformer as `build_localiser` makes it; yields the loss after each step.

    `batches` are images of one class, B x 1 x H x H, without end. AdamW, by the default recipe's schedule. Ends
    with the crop at its smallest. Raises TrialError where the loss is not finite.
    """
    localiser = transformer.localisation
    assert isinstance(localiser, Localiser)
    optimizer = torch.optim.AdamW(transformer.parameters(), lr=spec.lr)
    recipe = TrainingSpec.model_validate({**RECIPES["default"], "lr": spec.lr})
    generator = torch.Generator().manual_seed(seed)
    transformer.train()
    for step, images in zip(range(spec.steps), batches, strict=False):
        progress = step / spec.steps
        localiser.size = crop_size(localiser.smallest, progress)
        for group in optimizer.param_groups:
            group["lr"] = scheduled_lr(recipe, progress)
        crops, _ = transformer.warp(images)
        theta = random_theta(len(images), localiser.smallest, generator).to(images.device)
        random = transformer.sampler(images, transformer.family.grid(theta, transformer.output_size))
        loss = triplet_loss(encoder(crops), encoder(random), spec.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrialError(f"the loss is not finite at step {step + 1}; try a localiser.lr below {spec.lr:g}")
        yield value
    localiser.size = localiser.smallest


def triplet_loss(crops: Tensor, random: Tensor, margin: float) -> Tensor:
    """The mean over pairs n, m != n of max(0, |e_n - e_m|^2 - |e_n - r_n|^2 + margin) (paper, appendix A.2).

    `crops` are the descriptors e of the crops of B images, at least two, and `random` r those of a random crop of each:
    both B x F. No gradient reaches e_m: were both ends of a pair drawn together, that pull would be twice as strong as
    the push from the random crop, and all crops would meet where there is nothing to be seen.
    """
    others = crops.detach()
    to_others = crops.square().sum(dim=1)[:, None] + others.square().sum(dim=1) - 2 * crops @ others.T
    to_random = (crops - random).square().sum(dim=1)
    hinge = F.relu(to_others - to_random[:, None] + margin)
    count = len(crops)
    return (hinge.sum() - hinge.diagonal().sum()) / (count * (count - 1))


def crop_size(smallest: float, progress: float) -> float:
    """The side of a crop, as a share of the canvas's, when a share `progress` of the steps is done.

    Falls geometrically from the whole canvas to the smallest, and stays there. At first every crop shows the digit.
    """
    return float(smallest ** min(progress / _SHRINKING, 1.0))


def random_theta(count: int, size: float, generator: torch.Generator) -> Tensor:
    """Attention's theta, N x 3 on the CPU, of random crops of this size, uniform among those inside the canvas."""
    place = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - size)
    return torch.cat([torch.full((count, 1), size), place], dim=1)

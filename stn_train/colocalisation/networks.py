"""The networks of a co-localisation: an encoder of crops, and a localiser that predicts where to crop."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.geometry import ATTENTION, TRANSLATION
from stn_train.models.localisation import LOCALISATIONS
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import DIGIT, Localisation


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

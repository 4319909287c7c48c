"""An encoder of crops: the activations of a trained classifier, so that like crops lie near each other."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Encoder(nn.Module):
    """From images, N x C x H x W, to descriptors of unit length, N x F. Its weights stay as they are.

    A descriptor is what comes out of every ReLU of a sequence of layers, and its logits, one behind the other (paper,
    appendix A.2). Of unit length, so that the squared distance of any two is 4 at most, whatever the network.
    """

    def __init__(self, network: nn.Sequential) -> None:
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

"""A classifier with what stands at its input, and in which precision it computes."""

from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.geometry import HOMOGRAPHY, Family, pixel_grid
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import Pose, TrainingSpec

if TYPE_CHECKING:
    from stn_train.models.equivariant import EquivariantLocalisation, Templates

Precision = Literal["bfloat16", "float32"]

_PLACES = (4, 4)


class Network(nn.Module):
    """A `classifier` and, where there is one, the `transformer` at its input: one, several in parallel, or in a row.

    `pose` says where the transformer's theta comes from: the localisation network, which learns from the classifier's
    loss (`predicted`), stays at the identity (`identity`) or learns from true poses alone (`supervised`); or true poses
    that are passed with the images (`oracle`). All but the first are controls, of a single transformer. With
    `coordinates`, the classifier reads two channels more: where in the image, x and y, each pixel was sampled
    (CoordConv; Liu et al., arXiv:1807.03247).
    """

    def __init__(
        self, transformer: nn.Module | None, classifier: nn.Module, pose: Pose = "predicted", coordinates: bool = False
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.classifier = classifier
        self.pose = pose
        self.coordinates = coordinates
        if pose == "predicted":
            return
        assert isinstance(transformer, SpatialTransformer)
        if pose == "identity":
            transformer.localisation.requires_grad_(False)
        elif pose == "oracle":
            transformer.localisation, transformer.family = nn.Identity(), HOMOGRAPHY

    def front(self, images: Tensor, poses: Tensor | None = None) -> Tensor:
        """What the transformer puts out, N x C' x h x w, of images, N x C x H x W: what the classifier reads of them.

        `poses`: their true poses, theta N x 9 of all homographies, target to source. Only an oracle uses them; without
        them it stays at the identity.
        """
        if self.transformer is None:
            return images
        read: Tensor = self.transformer(images, *([self._true_poses(images, poses)] if self.pose == "oracle" else []))
        return read

    def _true_poses(self, images: Tensor, poses: Tensor | None) -> Tensor:
        """The poses that an oracle is given, or the identity for each image."""
        if poses is None:
            poses = torch.tensor([HOMOGRAPHY.identity]).expand(images.shape[0], -1)
        return poses.to(images.device)

    def forward(self, images: Tensor, poses: Tensor | None = None) -> Tensor:
        """Logits, N x classes, of images and their true poses: see `front`."""
        if not self.coordinates:
            logits: Tensor = self.classifier(self.front(images, poses))
            return logits
        assert isinstance(self.transformer, SpatialTransformer)
        given = self._true_poses(images, poses) if self.pose == "oracle" else self.transformer.localisation(images)
        return self._classified(images, given)

    def _classified(self, images: Tensor, theta: Tensor) -> Tensor:
        """Logits of images, N x classes, warped by theta, N x p."""
        assert isinstance(self.transformer, SpatialTransformer)
        read: Tensor = self.transformer(images, theta)
        if self.coordinates:
            grid = self.transformer.family.grid(
                theta, self.transformer.output_size, images.shape[-1] / images.shape[-2]
            )
            read = torch.cat([read, grid.movedim(-1, 1).to(read.dtype)], dim=1)
            read = read.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier(read)
        return logits

    def with_pose_loss(
        self,
        images: Tensor,
        poses: Tensor | None = None,
        labels: Tensor | None = None,
        templates: "Templates | None" = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Logits as of `forward`, and the loss of a localisation network that learns from it alone; None for any other.

        One that is supervised learns from the images' true `poses`, an equivariant one, the only one for which there
        are `templates`, from how those of their class would have them turned. The classifier's loss sends neither a
        gradient.
        """
        if not isinstance(self.transformer, SpatialTransformer):
            return self(images, poses), None
        if self.pose == "supervised":
            theta: Tensor = self.transformer.localisation(images)
            aspect = images.shape[-1] / images.shape[-2]
            loss = None if poses is None else pose_loss(self.transformer.family, theta, poses, aspect)
        elif templates is not None and labels is not None:
            localisation = cast("EquivariantLocalisation", self.transformer.localisation)
            place, polar = localisation.read(images)
            angles = localisation.angles(polar)
            theta = localisation.theta(place, angles)
            loss = F.cross_entropy(angles, templates.turns(polar, labels))
        else:
            return self(images, poses), None
        return self._classified(images, theta.detach()), loss


def pose_loss(family: Family, theta: Tensor, poses: Tensor, aspect: float) -> Tensor:
    """How far theta, N x p of `family`, misses true poses, N x 9 of all homographies; a scalar, float32 or wider.

    Of 4 x 4 points of the output the distance from where the true pose puts them, normalised; the root of the mean
    square of an image's, and the mean of the images'. Where several poses are likely, this asks for one of them. The
    mean square would ask for their mean, which is no pose: of a digit that may lie this way or that, it is a point.
    """
    poses = poses.to(theta.device)
    places = pixel_grid(_PLACES, poses).flatten(0, 1)
    missed = family.points(theta, places, aspect) - HOMOGRAPHY.points(poses, places, aspect)
    loss: Tensor = missed.flatten(1).norm(dim=1).mean() / len(places) ** 0.5
    return loss


def precision_on(device: torch.device, recipe: TrainingSpec) -> Precision:
    """The precision that a recipe means on a device.

    `auto` is bfloat16 on a GPU that supports it and on a CPU with instructions for it: elsewhere it is emulated, and
    slower than float32.
    """
    if recipe.precision == "float32":
        return "float32"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # torch has no public name for these yet.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        native = device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return "bfloat16" if native else "float32"

"""An equivariant localisation network: turn, move or scale the image, and theta turns, moves and scales with it.

Centre and size are read off the ink, with nothing to learn. Seen from there, around the centre and in units of that
size, an image is the same however it was moved or scaled, and a turn shifts it along the angle (a polar image; Esteves
et al., arXiv:1709.01889). Convolutions that wrap around shift with it, and so does the angle where they answer highest.

That settles how poses change, not which pose is upright. A classifier does not ask for one, so the angle is learnt by
congealing (Miller et al., CVPR 2000): templates of each class are found in the training images before training, each
image turned to where it looks most like them, and the network learns to tell that turn without knowing the class.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_train.geometry import ROTATION, SIMILARITY, Family, bilinear_sampler, ink_place, pixel_centres, precise
from stn_train.models.blocks import Convolution

RADII = 12
ANGLES = 64
REACH = 2.6
"""The polar image reaches so many radii of gyration from the centre, and so does the output: all of a digit's ink."""
_WIDTH = 16
NEAR = 3
"""The angle is the mean of so many on either side of the highest, weighted by their answers."""


class AngularConvolution(Convolution):
    """A convolution over polar images, N x C x R x A, that wraps around along the angle and pads the radii by zero."""

    def forward(self, images: Tensor) -> Tensor:
        around = self.kernel_size[1] // 2
        if around:  # as F.pad does, which forgets that the channels lie last, an order in which a CPU is faster
            first, rest, last = images.split([around, images.shape[3] - 2 * around, around], dim=3)
            images = torch.cat([last, first, rest, last, first], dim=3)
        return super().forward(images)


class EquivariantLocalisation(nn.Module):
    """From images, N x C x H x W, to theta, N x p, of similarities or of rotations about the middle: see the module.

    The image turned (and, with similarities, moved or scaled) has theta composed with that map, within the polar
    image's resolution and up to what the canvas cuts off; whatever it has learnt. What counts as ink is above 0: the
    digit is bright on black.
    """

    def __init__(self, channels: int, family: Family = SIMILARITY) -> None:
        super().__init__()
        self.rotates = family is ROTATION
        angle = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
        radius = (torch.arange(RADII) + 0.5) * (REACH / RADII)
        rays = torch.stack([angle.cos(), angle.sin()], dim=-1)
        self.points: Tensor
        self.register_buffer("points", radius[:, None, None] * rays, persistent=False)
        wide, left = _WIDTH, -(-RADII // 4)
        self.network = nn.Sequential(
            *self._layer(AngularConvolution(channels, wide, (5, 5), padding=(2, 0), bias=False)),
            *self._layer(AngularConvolution(wide, wide, (3, 9), stride=(2, 1), padding=(1, 0), bias=False)),
            *self._layer(AngularConvolution(wide, wide, (3, 9), stride=(2, 1), padding=(1, 0), bias=False)),
            *self._layer(AngularConvolution(wide, 2 * wide, (left, 1), bias=False)),
            AngularConvolution(2 * wide, 2 * wide, (1, 17), bias=False, groups=2 * wide),
            *self._layer(AngularConvolution(2 * wide, 2 * wide, 1, bias=False)),
            AngularConvolution(2 * wide, 1, 1),
        )

    @staticmethod
    def _layer(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
        return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        """Theta, N x p: from the output to the image."""
        place, polar = self.read(images)
        return self.theta(place, self.angles(polar))

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The ink's `place`, N x 3, and the polar images around it, N x C x R x A.

        `place` is the centre (x, y) and the radius of gyration, in half heights of the image; a radius is two pixels
        or more, also where there is no ink.
        """
        place = ink_place(images)
        aspect = images.shape[-1] / images.shape[-2]
        grid = place[:, None, None, :2] + place[:, None, None, 2:] * self.points
        unit = grid.new_tensor([aspect, 1.0])
        return place, bilinear_sampler(images, grid / unit).to(images.dtype)

    def angles(self, polar: Tensor) -> Tensor:
        """How likely each angle is the digit's turn, clockwise, as logits, N x A; of polar images, N x C x R x A."""
        logits: Tensor = self.network(polar)[:, 0, 0]
        return logits.float()

    @precise
    def theta(self, place: Tensor, angles: Tensor, turn: Tensor | float = 0.0) -> Tensor:
        """Theta, N x p, for the ink's `place`, N x 3, and the logits of its angle, N x A.

        The angle is the mean of those around the highest, under the softmax of these alone: one peak's, not a point
        between two. It is turned further by `turn`, N x 1, in radians.
        """
        highest = angles.argmax(dim=1, keepdim=True)
        offsets = torch.arange(-NEAR, NEAR + 1, device=angles.device)
        near = angles.gather(1, (highest + offsets) % ANGLES).softmax(dim=1)
        angle = (highest[:, 0] + near @ offsets.to(near.dtype)) * (2 * math.pi / ANGLES)
        return _pose(self.rotates, angle[:, None] + turn, place)


def _pose(rotates: bool, angle: Tensor, place: Tensor) -> Tensor:
    """Theta, N x p, of what turns by `angle`, N x 1, and, unless it only rotates, shows the ink at `place`, N x 3."""
    if rotates:
        return angle
    x, y, radius = place.split(1, dim=1)
    scale = REACH * radius
    return torch.cat([scale * angle.cos(), scale * angle.sin(), x, y], dim=1)


class MomentsLocalisation(nn.Module):
    """From images, N x C x H x W, to theta, N x p, of similarities or rotations, by the ink's moments: nothing learns.

    Its centre and radius of gyration, and its principal axis, which points to where the ink reaches farthest: along it,
    the third moment is positive. The image turned, moved or scaled has theta composed with that map.
    """

    def __init__(self, family: Family = SIMILARITY) -> None:
        super().__init__()
        self.rotates = family is ROTATION

    def forward(self, images: Tensor) -> Tensor:
        """Theta, N x p: from the output to the image."""
        place = ink_place(images)
        return _pose(self.rotates, _principal_axis(images.detach(), place), place)


@precise
def _principal_axis(images: Tensor, place: Tensor) -> Tensor:
    """The angle, N x 1, of the longest axis through the ink's centre."""
    height, width = images.shape[-2:]
    x, y, _ = place[:, :, None, None].unbind(dim=1)
    ink = images.clamp(min=0).sum(dim=1)
    across = pixel_centres(width, ink) * (width / height) - x
    down = pixel_centres(height, ink)[:, None] - y
    mixed = (ink * 2 * across * down).sum(dim=(1, 2), keepdim=True)
    axis = torch.atan2(mixed, (ink * (across.square() - down.square())).sum(dim=(1, 2), keepdim=True)) / 2
    third = (ink * (across * axis.cos() + down * axis.sin()) ** 3).sum(dim=(1, 2), keepdim=True)
    return (axis + math.pi * (third < 0))[:, :, 0]


# --- congealing -------------------------------------------------------------------------------------------------------

_ROUNDS = 30
_CENTRED = 15
_WITH_PRIOR = 8
_KINDS = 3
_FEW = 60
_SOFT, _SHARP = 0.04, 0.03
"""How much likeness, of 1, makes a turn e times as likely: while templates are sought, and when they teach."""
_ONE_WAY = 0.2
"""The length of the mean of a kind's turns, as unit vectors, above which digits were turned less than all around."""


@dataclass(frozen=True)
class Templates:
    """What the digits of each class look like, seen around their centres, in one common pose.

    `patterns` (classes x kinds x R x A) are polar images of norm 1, and `prior` (classes x A) the logarithm of how
    often the training images of a class are turned by each angle from there.
    """

    patterns: Tensor
    prior: Tensor

    def turns(self, polar: Tensor, labels: Tensor) -> Tensor:
        """How likely images of these classes are turned by each angle, clockwise: N x A, of N x C x R x A."""
        likeness = _likeness(_spectrum(polar), self.patterns[labels])
        joint = likeness / _SHARP + self.prior[labels][:, None]
        return joint.flatten(1).softmax(dim=1).view_as(joint).sum(dim=1)


@torch.no_grad()
def congeal(localisation: EquivariantLocalisation, images: Tensor, labels: Tensor, classes: int) -> Templates:
    """Templates of training images (M x C x H x W) with their `labels` (M), from 0 to `classes` - 1.

    By expectation maximisation over turns.

    Each class begins with images that are most like the others of their class, and each round turns every image to
    where it is like them, and takes the mean. Where digits have not been turned all around, the mean turn of each
    class becomes upright, so that it is known which way is up. The classes are then turned so that those alike lie
    alike, a 9 as a 6: what cannot be told apart by its shape has one pose, and what it was is told by its turn.
    """
    device = images.device
    spectra = _spectrum(localisation.read(images)[1])
    patterns = torch.zeros(classes, _KINDS, RADII, ANGLES, device=device)
    for label in range(classes):
        few = spectra[labels == label][:_FEW]
        if not len(few):
            continue
        alike = torch.fft.irfft((few[:, None] * few[None].conj()).sum(dim=2), n=ANGLES, dim=2).amax(dim=2)
        first = [int(alike.sum(dim=1).argmax())]
        while len(first) < _KINDS:  # the next is like many, and unlike those before
            first.append(int((alike.mean(dim=1) - alike[:, first].amax(dim=1)).argmax()))
        patterns[label] = torch.fft.irfft(few[first], n=ANGLES, dim=2)
    prior, one_way = torch.zeros(ANGLES, device=device), True
    for round_ in range(_ROUNDS):
        patterns = _normed(patterns)
        turned_by = torch.zeros(classes, _KINDS, ANGLES, device=device)
        for label in labels.unique().tolist():
            own = spectra[labels == label]
            joint = _likeness(own, patterns[label]) / _SOFT + prior
            turns = joint.flatten(1).softmax(dim=1).view_as(joint)
            waves = torch.fft.rfft(turns, dim=2).conj()
            sums = torch.einsum("nra,nka->kra", own, waves)
            patterns[label] = torch.fft.irfft(sums / len(own), n=ANGLES, dim=2)
            turned_by[label] = turns.sum(dim=0)
        if round_ < _CENTRED:
            mean_turn = torch.fft.rfft(turned_by, dim=2)[:, :, 1]
            one_way = bool(mean_turn.abs().sum() > _ONE_WAY * len(images))
            if one_way:
                upright = (-mean_turn.angle() / (2 * math.pi) * ANGLES).round().long()
                patterns = _rolled(patterns, upright)
        if round_ >= _WITH_PRIOR:
            prior = (turned_by.sum(dim=(0, 1)) / len(images) + 1e-3).log()
    patterns = _normed(patterns)
    if one_way:
        shifts = _aligned(patterns.mean(dim=1))[:, None].expand(-1, _KINDS)
    else:  # all around: nothing says which way is up, and the kinds of a class lie as they came
        shifts, prior = _aligned(patterns.flatten(0, 1)).view(-1, _KINDS), torch.zeros_like(prior)
    shifts = shifts.to(device)
    return Templates(_rolled(patterns, shifts), _rolled(prior.expand(classes, -1), -shifts[:, 0]))


def _spectrum(polar: Tensor) -> Tensor:
    """Polar images as they are compared: the mean channel of norm 1, each ring as long as it is around, along A."""
    rings = torch.arange(RADII, device=polar.device) + 0.5
    weighted = polar.float().mean(dim=1) * rings.sqrt()[:, None]
    spectrum: Tensor = torch.fft.rfft(_normed(weighted), dim=2)
    return spectrum


def _normed(patterns: Tensor) -> Tensor:
    """Of norm 1 over radii and angles."""
    norm: Tensor = patterns.flatten(-2).norm(dim=-1).clamp(min=1e-6)
    return patterns / norm[..., None, None]


def _likeness(spectra: Tensor, patterns: Tensor) -> Tensor:
    """Cosine of images (N, as spectra) and patterns, (N x) K x R x A, each turned by every angle: N x K x A."""
    together = torch.einsum("...ra,...kra->...ka", spectra, torch.fft.rfft(patterns, dim=-1).conj())
    likeness: Tensor = torch.fft.irfft(together, n=ANGLES, dim=2)
    return likeness


def _rolled(patterns: Tensor, by: Tensor) -> Tensor:
    """Patterns, (...) x A or (...) x R x A, each rolled along its angles by its own number of them, (...)."""
    rings = patterns.flatten(by.ndim, -2) if patterns.ndim > by.ndim + 1 else patterns.unsqueeze(-2)
    angles = (torch.arange(ANGLES, device=by.device) - by[..., None]) % ANGLES
    return rings.gather(-1, angles.unsqueeze(-2).expand_as(rings)).view_as(patterns)


def _aligned(patterns: Tensor) -> Tensor:
    """By how many angles to turn each of M patterns (M) so that those alike lie alike, and most look as they did.

    The best of a few starts, from each of which one pattern after another takes the turn in which it is most like all
    others. Then all are turned together to where they are most like themselves before: one that looks the same upside
    down has no say in which way is up.
    """
    spectra = torch.fft.rfft(_normed(patterns - patterns.mean(dim=2, keepdim=True)), dim=2)
    pairs = torch.fft.irfft((spectra[:, None].conj() * spectra[None]).sum(dim=2), n=ANGLES, dim=2).clamp(min=0) ** 3
    pairs = pairs.cpu()
    index = torch.arange(len(pairs))
    itself = pairs[index, index].clone()
    pairs[index, index] = 0
    best, highest = torch.zeros_like(index), -1.0
    for start in range(20):
        shifts = torch.randint(0, ANGLES, (len(pairs),), generator=torch.Generator().manual_seed(start))
        for _ in range(20):
            for one in index.tolist():
                around = (torch.arange(ANGLES)[:, None] - shifts) % ANGLES
                shifts[one] = pairs[one, index, around].sum(dim=1).argmax()
        reached = float(pairs[index[:, None], index, (shifts[:, None] - shifts) % ANGLES].sum())
        if reached > highest:
            best, highest = shifts, reached
    together = (best - torch.arange(ANGLES)[:, None]) % ANGLES
    return together[itself[index, together].sum(dim=1).argmax()]

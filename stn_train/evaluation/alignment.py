"""Does a transformer undo the distortion? Poses before and after it, and how far they vary.

D maps the canvas to the digit, T the transformer's output to the canvas, both target to source; C = D after T tells
which point of the digit each point of the output shows. A transformer may settle on any canonical pose K of its own:
C = K for every image is a distortion undone. K stands on the right of D, and is estimated as the mean of C; so what is
left of the distortion is C K^-1, and what there was of it D K0^-1, where K0 is the mean of D. Of a transformer that
does the same to every image, these are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from stn_train.data.datasets import TEST_SEED, FixedDataset, make_fixed_dataset
from stn_train.data.distortion import distortion_family, true_poses
from stn_train.evaluation.classify import classify, edge
from stn_train.evaluation.metrics import (
    LEAST,
    AlignmentMetrics,
    Component,
    Overlap,
    ResidualCurve,
    Spread,
    WithinClasses,
)
from stn_train.evaluation.variance import within_classes
from stn_train.geometry import Family, MatrixFamily, pixel_grid
from stn_train.models.network import Network, Precision
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import DIGIT, DatasetSpec

_POINTS = (5, 5)
_SINGULAR = 1e-9
_PROJECTS = 1e-6
_PARTS = 20
"""Into so many parts images are sorted by what there is of a component, or fewer, always a multiple of four."""
_LEAST_IN_A_PART = 20
_HARDLY = 1e-3


@dataclass(frozen=True)
class Map:
    """M maps of one family, `theta` M x p, that read images of a size (H, W)."""

    family: Family
    theta: Tensor
    size: tuple[int, int]

    def __getitem__(self, index: Tensor) -> "Map":
        return Map(self.family, self.theta[index], self.size)

    @property
    def aspect(self) -> float:
        """Width over height of what is read."""
        return self.size[1] / self.size[0]

    @property
    def is_affine(self) -> bool:
        """Whether its maps are matrices of which none projects."""
        if not isinstance(self.family, MatrixFamily):
            return False
        lowest = self.matrix()[:, 2]
        return bool(torch.allclose(lowest, lowest.new_tensor([0.0, 0.0, 1.0]), rtol=0, atol=_PROJECTS))

    @property
    def keeps_lines(self) -> bool:
        """Whether straight lines stay straight."""
        return isinstance(self.family, MatrixFamily)

    def points(self, target: Tensor) -> Tensor:
        """Where points go, M x Q x 2 from Q x 2 or M x Q x 2, both normalised."""
        return self.family.points(self.theta, target, self.aspect)

    def matrix(self) -> Tensor:
        """M x 3 x 3, of maps that have such a thing."""
        assert isinstance(self.family, MatrixFamily)
        return self.family.matrix(self.theta, self.aspect)


@dataclass(frozen=True)
class PoseResidual:
    """What was done to M digits, and what a transformer did about it.

    `distortion` maps the canvas to the digit's frame; `stages` are the transformers, each reading what the one before
    it has put out. All of theta are float64.
    """

    distortion: Map
    stages: tuple[Map, ...]

    def __len__(self) -> int:
        return len(self.distortion.theta)

    def __getitem__(self, index: Tensor) -> "PoseResidual":
        return PoseResidual(self.distortion[index], tuple(stage[index] for stage in self.stages))

    @property
    def is_affine(self) -> bool:
        """Whether every map is a matrix that does not project."""
        return self.distortion.is_affine and all(stage.is_affine for stage in self.stages)

    @property
    def keeps_lines(self) -> bool:
        """Whether straight lines of the output are straight lines of the digit."""
        return self.distortion.keeps_lines and all(stage.keeps_lines for stage in self.stages)

    def on_canvas(self, output: Tensor) -> Tensor:
        """T: points of the output, (M x) Q x 2, on the canvas, M x Q x 2, both normalised."""
        points = output
        for stage in reversed(self.stages):
            points = stage.points(points)
        return points

    def on_digit(self, output: Tensor) -> Tensor:
        """C: normalised points of the output, (M x) Q x 2, in the digit's frame, M x Q x 2, in centred pixels."""
        return self.through_distortion(self.on_canvas(output))

    def through_distortion(self, canvas: Tensor) -> Tensor:
        """D: normalised points of the canvas, (M x) Q x 2, in the digit's frame, M x Q x 2, in centred pixels."""
        return self.distortion.points(canvas) * (DIGIT / 2)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """D and C, each M x 3 x 3 and to centred pixels of the digit, where all maps are affine."""
        distortion = self.distortion.matrix() * torch.tensor([DIGIT / 2, DIGIT / 2, 1.0], dtype=torch.float64)[:, None]
        composed = distortion
        for stage in self.stages:
            composed = composed @ stage.matrix()
        return distortion, composed

    def poses(self) -> Tensor:
        """C, M x 3 x 3, from the output, normalised, to the digit's centred pixels; of maps that are not affine, the
        affine maps nearest to them."""
        if self.is_affine:
            return self.matrices()[1]
        places = pixel_grid(_POINTS, self.distortion.theta).flatten(0, 1)
        shown = torch.cat([self.on_digit(places), torch.ones_like(places[:, :1]).expand(len(self), -1, 1)], dim=2)
        places = torch.cat([places, torch.ones_like(places[:, :1])], dim=1)
        fitted: Tensor = torch.linalg.pinv(places) @ shown
        return fitted.mT


def canonical(poses: Tensor) -> Tensor:
    """K, 3 x 3: the mean of poses, M x 3 x 3. Exact if all poses are equal; the mean of rotated ones is smaller."""
    return poses.mean(dim=0)


def unshrunk(poses: Tensor) -> Tensor:
    """K, 3 x 3, with the mean size of poses, M x 3 x 3, the geometric one: what they would be if they were alike."""
    pose = canonical(poses)
    sizes = torch.linalg.det(poses).abs().clamp(min=_SINGULAR).log()
    grown = pose.clone()
    grown[:2, :2] *= (sizes.mean().exp() / torch.linalg.det(pose).abs()).sqrt()
    return grown


def spreads(residual: PoseResidual, digit: Tensor | None = None) -> tuple[Spread, ...]:
    """How far the poses vary before and after: see AlignmentMetrics. Empty where no canonical pose can be told.

    There is none of fewer than two images, none where the mean pose is singular, as where the transformer shows a
    single point or a line, and none where that is so of a single image.

    With the number of the digit that each image shows (M), how far they vary among the images of one and the same
    digit; empty where none is shown twice.
    """
    if not _has_canonical(residual):
        return ()
    pairs = _of_matrices(*residual.matrices(), digit) if residual.is_affine else _of_points(residual, digit)
    if not all(isfinite(value) for pair in pairs.values() for value in pair):
        return ()
    return tuple(Spread(component=name, before=before, after=after) for name, (before, after) in pairs.items())


def residual_curves(residual: PoseResidual) -> tuple[ResidualCurve, ...]:
    """What is left of each component against what there was of it: see ResidualCurve and AlignmentMetrics.

    Empty where `spreads` is, and of fewer than 80 values.
    """
    if not _has_canonical(residual):
        return ()
    pairs: dict[Component, tuple[Tensor, Tensor]]
    pairs = _about_canonical(*residual.matrices()) if residual.is_affine else {"translation": _middles(residual)}
    told = (_residual_curve(name, *pair) for name, pair in pairs.items())
    return tuple(curve for curve in told if curve is not None)


def _residual_curve(component: Component, before: Tensor, after: Tensor) -> ResidualCurve | None:
    """Of values of M images, M x 1 or M x 2; None of those that hardly vary, or half of which do not, and of few.

    None as well where what is left is beyond numbers, as with a transformer that has diverged.
    """
    parts = min(_PARTS, before.numel() // _LEAST_IN_A_PART // 4 * 4)
    if component == "rotation":
        after = before + torch.remainder(after - before + 180, 360) - 180
    done, left = ((values - values.mean(dim=0)).flatten() for values in (before, after))
    least = LEAST[component][0]
    if not parts or _about_mean(before, None) < least or not bool(done.abs().median() > least * _HARDLY):
        return None
    if not bool(left.isfinite().all()):
        return None
    order = done.argsort(stable=True)
    done_by_part, left_by_part = (values[order].tensor_split(parts) for values in (done, left))
    return ResidualCurve(
        component=component,
        before=tuple(float(part.mean()) for part in done_by_part),
        after=tuple(float(part.mean()) for part in left_by_part),
        varies=tuple(float(part.std()) for part in left_by_part),
    )


def _has_canonical(residual: PoseResidual) -> bool:
    if len(residual) < 2:
        return False
    poses = residual.poses()
    return not is_singular(canonical(poses)) and not is_singular(poses)


def is_singular(poses: Tensor) -> bool:
    """Whether any pose, (M x) 3 x 3 from normalised coordinates to pixels, shows less than an area."""
    largest, smallest = torch.linalg.svdvals(poses[..., :2, :2]).unbind(-1)
    return not bool((smallest > _SINGULAR * largest.clamp(min=1)).all())


def _of_matrices(distortion: Tensor, composed: Tensor, digit: Tensor | None) -> dict[Component, tuple[float, float]]:
    pairs = _about_canonical(distortion, composed, digit)
    return {name: (_about_mean(before, digit), _about_mean(after, digit)) for name, (before, after) in pairs.items()}


def _about_canonical(
    distortion: Tensor, composed: Tensor, digit: Tensor | None = None
) -> dict[Component, tuple[Tensor, Tensor]]:
    """The components of D K0^-1 and of C K^-1, M x 1 or M x 2 each."""
    upright = (poses @ torch.linalg.pinv(canonical(poses)) for poses in (distortion, composed))
    before, after = (_components(poses, digit) for poses in upright)
    return {name: (before[name], after[name]) for name in before}


def _components(pose: Tensor, digit: Tensor | None) -> dict[Component, Tensor]:
    """Poses, M x 3 x 3, taken apart, M x 1 or M x 2 each: pose = translation after shear after stretch after rotation.

    From the canvas to the digit, this is the order in which a distortion comes off. `rotation` in degrees, counted from
    the circular mean, of all images or of those of the digit, and at most 180 from it; `scale` the logarithm of the
    square root of the area factor; `aspect` that of width over height; `shear` the tangent; `translation` in pixels.
    """
    (a, b, x), (c, d, y) = pose[:, 0].unbind(-1), pose[:, 1].unbind(-1)
    angle = torch.atan2(c, d)
    tall = torch.hypot(c, d)
    wide = (a * d - b * c) / tall
    shear = (a * c + b * d) / tall**2
    sine, cosine = _means(torch.stack([angle.sin(), angle.cos()], dim=1), digit).unbind(-1)
    from_mean = angle - torch.atan2(sine, cosine)
    turned = torch.rad2deg(torch.remainder(from_mean + torch.pi, 2 * torch.pi) - torch.pi)
    return {
        "rotation": turned[:, None],
        "scale": (wide * tall).abs().log()[:, None] / 2,
        "aspect": (wide / tall).abs().log()[:, None],
        "shear": shear[:, None],
        "translation": torch.stack([x, y], dim=1),
    }


def _means(values: Tensor, digit: Tensor | None) -> Tensor:
    """For each of M images the mean of the values, M x k, of all that show its digit, or of all: M x k."""
    if digit is None:
        return values.mean(dim=0).expand_as(values)
    numbers, group = digit.unique(return_inverse=True)
    sums = values.new_zeros(len(numbers), values.shape[1]).index_add(0, group, values)
    return torch.index_select(sums / group.bincount()[:, None], 0, group)


def _about_mean(values: Tensor, digit: Tensor | None) -> float:
    """The root mean square distance of points, M x k, from their mean; or each from the mean of its digit's.

    The latter is what it would be of many images of each digit: the means of a few lie near to them.
    """
    lost = 0 if digit is None else len(digit.unique())
    return float(((values - _means(values, digit)).square().sum() / (len(values) - lost)).sqrt())


def _of_points(residual: PoseResidual, digit: Tensor | None) -> dict[Component, tuple[float, float]]:
    before, after = _figures(residual)
    of_place, of_shape = zip(_place_and_shape(before, digit), _place_and_shape(after, digit), strict=True)
    return {"translation": of_place, "non_affine": of_shape}


def _figures(residual: PoseResidual) -> tuple[Tensor, Tensor]:
    """Where points of the output lie on the digit, M x Q x 2: by the mean of the maps, and by each image's own."""
    canvas = residual.on_canvas(pixel_grid(_POINTS, residual.distortion.theta).flatten(0, 1))
    return residual.through_distortion(canvas.mean(dim=0)), residual.through_distortion(canvas)


def _middles(residual: PoseResidual) -> tuple[Tensor, Tensor]:
    before, after = _figures(residual)
    return before.mean(dim=1), after.mean(dim=1)


def _place_and_shape(points: Tensor, digit: Tensor | None) -> tuple[float, float]:
    """How far figures, M x Q x 2, vary: their middles, and the points about them.

    The latter is brought to the size of a digit's frame, so that a transformer gains nothing by showing less of it: a
    figure's size is what is left of its points' squares without what varies.
    """
    middles = points.mean(dim=1)
    about = (points - middles[:, None]).flatten(1)
    varies = _about_mean(about, digit)
    size = about.square().sum(dim=1).mean() - varies**2
    frame = pixel_grid(_POINTS, points) * (DIGIT / 2)
    count = len(points[0])
    return _about_mean(middles, digit), float(varies / count**0.5 * (frame.square().sum() / size).sqrt())


# --- does it find the digit? ------------------------------------------------------------------------------------------
#
# The region that it samples against the digit's frame, in the digit's own pixels. Seen from the digit, its frame is an
# upright square of 28 x 28 pixels, and a sampled region is a polygon, whatever the distortion was. Where the maps are
# affine, regions overlap as much there as on the canvas.

_OVERLAPS = 0.5
_STEPS_WHERE_BENT = 16
_CHUNK = 500


@dataclass(frozen=True)
class Regions:
    """Of M images, each M: the overlap (IoU) of the sampled region with the digit's frame, `raw` and `aligned` (once
    the common pose is taken off), and the share of the digit's `ink` that it covers."""

    raw: Tensor
    aligned: Tensor
    ink: Tensor

    def summary(self, index: Tensor) -> Overlap:
        """Of the images of these numbers, of which there is at least one."""
        raw, aligned = self.raw[index], self.aligned[index]
        return Overlap(
            images=len(raw),
            iou=float(raw.mean()),
            iou_found=float((raw > _OVERLAPS).double().mean()),
            aligned=float(aligned.mean()),
            aligned_found=float((aligned > _OVERLAPS).double().mean()),
            ink=float(self.ink[index].mean()),
        )


def regions(residual: PoseResidual, sources: Tensor, digit: Tensor) -> Regions:
    """What a transformer samples of M images, which show the `digit` (M) -th of `sources` (N x 28 x 28, uint8)."""
    sides = edge(residual.distortion.theta, 1 if residual.keeps_lines else _STEPS_WHERE_BENT)
    frame = pixel_grid((DIGIT, DIGIT), sides).flatten(0, 1) * (DIGIT / 2)
    polygon = residual.on_digit(sides)
    covered = inside(polygon, frame)
    ink = sources.flatten(1).double()[digit]
    poses = residual.poses()
    aligned = torch.zeros(len(residual), dtype=torch.float64)
    if not is_singular(canonical(poses)):
        home = torch.linalg.inv(unshrunk(poses))  # from the digit's pixels to where the output shows them in the mean
        held = residual.on_digit(sides * (DIGIT / 2) @ home[:2, :2].mT + home[:2, 2])
        aligned = _iou(held, inside(held, frame))
    return Regions(_iou(polygon, covered), aligned, (ink * covered).sum(dim=1) / ink.sum(dim=1).clamp(min=1))


def _iou(polygon: Tensor, covered: Tensor) -> Tensor:
    """Of polygons, M x V x 2, with the digit's frame, of whose pixels `covered` (M x 784) lie inside."""
    shared = covered.sum(dim=1)
    return shared / (DIGIT**2 + torch.maximum(area(polygon), shared) - shared)


def area(polygon: Tensor) -> Tensor:
    """The areas, M, of polygons that do not cross themselves, M x V x 2."""
    (x, y), (next_x, next_y) = polygon.unbind(-1), polygon.roll(-1, dims=1).unbind(-1)
    return (x * next_y - next_x * y).sum(dim=1).abs() / 2


def inside(polygon: Tensor, points: Tensor) -> Tensor:
    """Whether points, P x 2, lie inside polygons, M x V x 2, by the even-odd rule: M x P, bool."""
    return torch.cat([_inside(some, points) for some in polygon.split(_CHUNK)])


def _inside(polygon: Tensor, points: Tensor) -> Tensor:
    """A ray to the right from a point that is inside crosses an odd number of sides."""
    x, y = points.unbind(-1)
    odd = torch.zeros(len(polygon), len(points), dtype=torch.bool)
    for start, end in zip(polygon.unbind(1), polygon.roll(-1, dims=1).unbind(1), strict=True):
        (from_x, from_y), (to_x, to_y) = start[:, :, None].unbind(1), end[:, :, None].unbind(1)
        crossing = from_x + (to_x - from_x) * (y - from_y) / (to_y - from_y)
        odd ^= ((from_y > y) != (to_y > y)) & (x < crossing)
    return odd


# --- all of it -------------------------------------------------------------------------------------------------------


def alignment_metrics(
    dataset: DatasetSpec,
    fixed: FixedDataset,
    network: Network,
    thetas: tuple[Tensor, ...],
    device: torch.device,
    precision: Precision,
) -> AlignmentMetrics | None:
    """How well a network aligns the fixed images of a dataset, whose `thetas` (each M x p) it has predicted.

    The thetas are in the order of the forward pass. None where there is no such thing as *the* pose of its input:
    without a transformer at the input, with several side by side, and where an image shows several digits.
    """
    stages = _in_a_row(network.transformer)
    if not stages or dataset.channels > 1:
        return None
    residual = _pose_residual(dataset, stages, fixed.theta, thetas)
    found = regions(residual, fixed.sources, fixed.digit)
    of_class = [(fixed.labels == label).nonzero()[:, 0] for label in range(dataset.classes)]
    again, *_ = make_fixed_dataset(dataset, fixed.digits, "test", TEST_SEED + 1)  # each digit once more, otherwise
    given = [true_poses(dataset, each.theta) if network.pose == "oracle" else None for each in (fixed, again)]
    read = classify(network, again.images, device, precision, given[1]).thetas
    both = tuple(torch.cat(pair) for pair in zip(thetas, read, strict=True))
    twice = _pose_residual(dataset, stages, torch.cat([fixed.theta, again.theta]), both)
    return AlignmentMetrics(
        pose=spreads(residual),
        pose_by_class=tuple(spreads(residual[index]) for index in of_class),
        pose_of_a_digit=spreads(twice, torch.cat([fixed.digit, again.digit])),
        within_classes=_within_classes(dataset, fixed, network, device, given[0]),
        residual_curves=residual_curves(residual),
        overlap=found.summary(torch.arange(len(residual))),
        overlap_by_class=tuple(found.summary(index) if len(index) else None for index in of_class),
    )


def _within_classes(
    dataset: DatasetSpec, fixed: FixedDataset, network: Network, device: torch.device, poses: Tensor | None
) -> WithinClasses:
    network.eval()
    images, output = within_classes(network.front, fixed.images, fixed.labels, dataset.classes, device, poses)
    digits, _ = within_classes(nn.Identity(), fixed.sources[:, None], fixed.digits.labels, dataset.classes, device)
    return WithinClasses(digits=digits, images=images, output=output)


def _pose_residual(
    dataset: DatasetSpec, stages: Sequence[SpatialTransformer], theta: Tensor, thetas: tuple[Tensor, ...]
) -> PoseResidual:
    """Of images with this distortion's `theta`, and the transformers' `thetas`."""
    sizes = (dataset.canvas, *(stage.output_size for stage in stages))
    maps = (Map(stage.family, each.double(), size) for stage, each, size in zip(stages, thetas, sizes, strict=False))
    return PoseResidual(Map(distortion_family(dataset), theta.double(), dataset.canvas), tuple(maps))


def _in_a_row(front: nn.Module | None) -> list[SpatialTransformer]:
    """The transformers at a network's input, where each reads what the one before it has put out."""
    stages = list(front) if isinstance(front, nn.Sequential) else [front]
    transformers = [stage for stage in stages if isinstance(stage, SpatialTransformer)]
    return transformers if len(transformers) == len(stages) else []

"""Does a transformer undo the distortion? Poses before and after it, and how far they vary.

D maps the canvas to the digit, T the transformer's output to the canvas, both target to source; C = D after T tells
which point of the digit each point of the output shows. A transformer may settle on any canonical pose K of its own:
C = K for every image is a distortion undone. K stands on the right of D, and is estimated as the mean of C (see
`canonical_pose`); so what is left of the distortion is C K^-1, and what there was of it D K0^-1, where K0 is the mean
of D. Of a transformer that does the same to every image, these are equal.

From the top: `alignment_metrics` asks for all of it; `maps_of` has D and T; `pose_components` takes D K0^-1 and C K^-1
apart, for each image, into a rotation, a scale and so on; `spreads` are how far these vary before and after, of which
the report says how much is removed; `residual_curves` is what is left of small and large distortions, `turns_left` how
digits of one kind still differ in rotation. `regions` asks
whether it finds the digit, and `within_classes` how much images of a class look alike once they are aligned.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import isfinite

import torch
from torch import Tensor, nn

from stn_train.data.datasets import TEST_SEED, FixedDataset, make_fixed_dataset
from stn_train.data.distortion import distortion_family, true_poses
from stn_train.evaluation.classify import class_from_theta, classify, edge, within_classes
from stn_train.evaluation.metrics import LEAST, AlignmentMetrics, Component, ResidualCurve, Spread
from stn_train.geometry import ROTATION, Family, MatrixFamily, pixel_grid
from stn_train.models.network import Network, Precision
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import DIGIT, DatasetSpec

_POINTS = (5, 5)
_SINGULAR = 1e-9
_FADED = 0.25
"""The least size of the mean pose, as a share of the poses': where it is less, they point everywhere."""
_PROJECTS = 1e-6
_EDGE_ON = 0.1
"""A projection is edge-on where the canvas's nearest corner has less than this share of the farthest one's depth."""
_PARTS = 20
"""Into so many parts images are sorted by what there is of a component, or fewer, always a multiple of four."""
_LEAST_IN_A_PART = 20
_HARDLY = 1e-3
_OVERLAPS = 0.5
_STEPS_WHERE_BENT = 16
_CHUNK = 500
_LARGE_TURN = 20.0

Size = tuple[int, int]
"""Height and width in pixels."""
Components = dict[Component, tuple[Tensor, Tensor]]
"""Of M images, by component, what there was of the distortion and what is left of it, M x k each."""


def alignment_metrics(
    dataset: DatasetSpec,
    fixed: FixedDataset,
    network: Network,
    thetas: Sequence[Tensor],
    device: torch.device,
    precision: Precision,
    half_turns: Collection[int] = (),
) -> AlignmentMetrics | None:
    """How well a network aligns the fixed images of a dataset, whose `thetas` (each M x p) it has predicted.

    The thetas are in the order of the forward pass; `half_turns` are the classes that look the same upside down. None
    where there is no such thing as *the* pose of its input:
    without a transformer at the input, with several side by side, and where an image shows several digits.
    """
    front = network.transformer
    at_input = list(front) if isinstance(front, nn.Sequential) else [front]
    stages = [stage for stage in at_input if isinstance(stage, SpatialTransformer)]
    if dataset.addition or len(stages) < len(at_input):
        return None

    # All images; and each digit distorted once more, so that nothing but the distortion differs between two of one.
    again, *_ = make_fixed_dataset(dataset, fixed.digits, "test", TEST_SEED + 1)
    poses, poses_again = (
        true_poses(dataset, each.theta) if network.pose == "oracle" else None for each in (fixed, again)
    )
    thetas_again = classify(network, again.images, device, precision, poses_again).thetas
    both = [torch.cat(pair) for pair in zip(thetas, thetas_again, strict=True)]
    digit = torch.cat([fixed.digit, again.digit])
    frame: Size = fixed.sources.shape[-2], fixed.sources.shape[-1]
    maps = maps_of(dataset, stages, fixed.theta, thetas, frame)
    twice = maps_of(dataset, stages, torch.cat([fixed.theta, again.theta]), both, frame)
    (seen, _), (seen_twice, digit_seen) = facing(maps, fixed.digit), facing(twice, digit)
    components, components_of_a_digit = pose_components(seen), pose_components(seen_twice, digit_seen)

    swapped = None
    if len(stages) == 1:
        of_another = thetas_again[0][fixed.digit]
        wrong = classify(network, fixed.images, device, precision, theta=of_another).predicted != fixed.labels
        swapped = float(wrong.double().mean())
    iou, aligned, ink = regions(maps, fixed.sources, fixed.digit)
    network.eval()
    turn_median, turn_large, turn_before, turn_within = turns_left(
        rotations(maps), rotations(twice), fixed.labels, digit, half_turns
    )
    classes = int(fixed.labels.max()) + 1
    images, output = within_classes(network.front, fixed.images, fixed.labels, classes, device, poses)
    digits, _ = within_classes(nn.Identity(), fixed.sources, fixed.digits.labels, classes, device)
    return AlignmentMetrics(
        pose=spreads(components),
        pose_of_a_digit=spreads(components_of_a_digit, digit_seen),
        residual_curves=residual_curves(components),
        iou=float(iou.mean()),
        iou_found=float((iou > _OVERLAPS).double().mean()),
        aligned=float(aligned.mean()),
        aligned_found=float((aligned > _OVERLAPS).double().mean()),
        ink=float(ink.mean()),
        turn_median=turn_median,
        turn_large=turn_large,
        turn_before=turn_before,
        turn_within=turn_within,
        swapped_error=swapped,
        class_from_theta=class_from_theta(torch.cat(list(thetas), dim=1), fixed.labels, fixed.digit),
        within_classes_digits=digits,
        within_classes_images=images,
        within_classes_output=output,
    )


# --- the distortion's map and the transformers' -----------------------------------------------------------------------


@dataclass(frozen=True)
class Map:
    """M maps of one family, target to source, by their `theta`, M x p and float64.

    `reads` are height and width of the image that they read, and `aspect` is width over height of it, or, of what bends
    the canvas before it reads a digit, of the canvas.
    """

    family: Family
    theta: Tensor
    aspect: float
    reads: Size = (DIGIT, DIGIT)

    @property
    def half(self) -> Tensor:
        """Half of what it reads, (x, y) in pixels: normalised coordinates times this are centred pixels."""
        return self.theta.new_tensor([self.reads[1] / 2, self.reads[0] / 2])


def maps_of(
    dataset: DatasetSpec,
    stages: Sequence[SpatialTransformer],
    theta: Tensor,
    thetas: Iterable[Tensor],
    frame: Size = (DIGIT, DIGIT),
) -> list[Map]:
    """D by the distortion's `theta`, then the maps of the transformers in a row by `thetas`: T is one after another.

    Each reads what the one before it in the list puts out; the first the digit, whose `frame` has this size, the second
    the canvas.
    """
    families = (distortion_family(dataset), *(stage.family for stage in stages))
    sizes = (dataset.canvas, dataset.canvas, *(stage.output_size for stage in stages))
    read = (frame, *sizes[1:])
    return [
        Map(family, each.double(), width / height, size)
        for family, each, (height, width), size in zip(families, (theta, *thetas), sizes, read, strict=False)
    ]


def read_points(maps: Sequence[Map], points: Tensor) -> Tensor:
    """Where points that the last of the maps puts out, (M x) Q x 2, lie on what the first one reads: M x Q x 2.

    Both normalised. Of all maps it is C, to the digit's frame; of all but the first T, to the canvas.
    """
    for one in reversed(maps):
        points = one.family.points(one.theta, points, one.aspect)
    return points


def poses_of(maps: Sequence[Map]) -> tuple[Tensor | None, Tensor]:
    """D and C, M x 3 x 3, from normalised coordinates to the digit's centred pixels.

    Where a map is no matrix, or one that projects, D is None, and C are the affine maps nearest to it.
    """
    matrices = [one.family.matrix(one.theta, one.aspect) for one in maps if isinstance(one.family, MatrixFamily)]
    lowest = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    affine = (torch.allclose(each[:, 2], lowest, rtol=0, atol=_PROJECTS) for each in matrices)
    if len(matrices) == len(maps) and all(affine):
        distortion = matrices[0] * torch.cat([maps[0].half, maps[0].half.new_ones(1)])[:, None]
        return distortion, reduce(torch.matmul, matrices[1:], distortion)
    places = pixel_grid(_POINTS, maps[0].theta).flatten(0, 1)
    shown = read_points(maps, places) * maps[0].half
    ones = torch.ones_like(places[:, :1])
    homogeneous = torch.cat([shown, ones.expand(len(shown), -1, 1)], dim=2)
    fitted: Tensor = torch.linalg.pinv(torch.cat([places, ones], dim=1)) @ homogeneous
    return None, fitted.mT


def facing(maps: Sequence[Map], digit: Tensor) -> tuple[list[Map], Tensor]:
    """The maps and the `digit` (M) of the images that the distortion does not show almost edge-on.

    A projection sends points near its horizon as far away as one likes, so that a few such images would outweigh all
    others.
    """
    first, corners = maps[0], torch.tensor([(x, y, 1.0) for x in (-1, 1) for y in (-1, 1)], dtype=torch.float64)
    if not isinstance(first.family, MatrixFamily):
        return list(maps), digit
    depth = first.family.matrix(first.theta, first.aspect)[:, 2] @ corners.mT
    depth = depth * depth.sum(dim=1, keepdim=True).sign()
    seen = depth.amin(dim=1) > _EDGE_ON * depth.amax(dim=1)
    return [replace(one, theta=one.theta[seen]) for one in maps], digit[seen]


def cancel_out(poses: Tensor) -> bool:
    """Whether poses, M x 3 x 3, point everywhere, so that next to nothing is left of them in the mean."""
    size = torch.linalg.det(poses[:, :2, :2]).abs().sqrt().mean()
    return bool(torch.linalg.svdvals(poses.mean(dim=0)[:2, :2])[1] < _FADED * size)


def canonical_pose(poses: Tensor) -> Tensor | None:
    """K, 3 x 3: the mean of poses, M x 3 x 3; where they cancel out, their mean once each is turned back.

    That is by the rotation nearest to it, on the digit's side: of poses R K, which differ in the rotation R alone, it
    leaves K, up to a rotation that all have in common. None where they cancel out even so.
    """
    if cancel_out(poses):
        (a, b), (c, d) = (poses[:, row, :2].unbind(-1) for row in (0, 1))
        poses = ROTATION.matrix(torch.atan2(b - c, a + d)[:, None]) @ poses
    return None if cancel_out(poses) else poses.mean(dim=0)


def is_singular(poses: Tensor) -> bool:
    """Whether any pose, (M x) 3 x 3 from normalised coordinates to pixels, shows less than an area."""
    largest, smallest = torch.linalg.svdvals(poses[..., :2, :2]).unbind(-1)
    return not bool((smallest > _SINGULAR * largest.clamp(min=1)).all())


# --- what there was of the distortion, and what is left of it ---------------------------------------------------------


def pose_components(maps: Sequence[Map], digit: Tensor | None = None) -> Components:
    """The components of D K0^-1, before, and of C K^-1, after, of each of M images: see `decompose`.

    Of maps that bend or project, where 5 x 5 points of the output lie on the digit: see `decompose_points`; before, by
    the mean of the images' T, and after, by each image's own. `rotation` is in degrees from the circular mean, of all
    images or of those that show the same `digit` (M), and at most 180 from it. Empty where no canonical pose can be
    told: of fewer than two images, where the transformer shows an image as a point or a line, and where poses cancel
    out (of maps that bend or project, also those that are turned all around).
    """
    distortion, poses = poses_of(maps)
    if len(poses) < 2 or is_singular(poses):
        return {}
    if distortion is not None:
        commons = canonical_pose(distortion), canonical_pose(poses)
        if commons[0] is None or commons[1] is None:
            return {}
        before, after = (
            decompose(each @ torch.linalg.pinv(common))
            for each, common in zip((distortion, poses), commons, strict=True)
        )
    elif cancel_out(poses):
        return {}
    else:
        canvas = read_points(maps[1:], pixel_grid(_POINTS, maps[0].theta).flatten(0, 1))
        shown = (read_points(maps[:1], points) * maps[0].half for points in (canvas.mean(dim=0), canvas))
        before, after = (decompose_points(points, maps[0].half) for points in shown)
    for found in (before, after):
        angle = found["rotation"]
        sine, cosine = group_means(torch.cat([angle.sin(), angle.cos()], dim=1), digit).split(1, dim=1)
        from_mean = angle - torch.atan2(sine, cosine)
        found["rotation"] = torch.rad2deg(torch.remainder(from_mean + torch.pi, 2 * torch.pi) - torch.pi)
    return {name: (before[name], after[name]) for name in before}


def rotations(maps: Sequence[Map]) -> Components:
    """The rotations nearest to D, before, and to C, after, of each of M images, in degrees, M x 1.

    They need no canonical pose, which cannot be told of digits that are turned all around: of C = R K, a rotation and a
    pose, it is R's angle and K's together. Empty where a map bends or projects or shows less than an area.
    """
    distortion, poses = poses_of(maps)
    if distortion is None or is_singular(poses):
        return {}
    (a, b), (c, d) = (torch.stack([distortion, poses])[:, :, row, :2].unbind(-1) for row in (0, 1))
    before, after = torch.rad2deg(torch.atan2(c - b, a + d))[:, :, None]
    return {"rotation": (before, after)}


def decompose(poses: Tensor) -> dict[Component, Tensor]:
    """Poses, M x 3 x 3, taken apart, M x 1 or M x 2 each: pose = translation after shear after stretch after rotation.

    From the canvas to the digit, this is the order in which a distortion comes off. `rotation` in radians; `scale` the
    logarithm of the square root of the area factor; `aspect` that of width over height; `shear` the tangent;
    `translation` in pixels.
    """
    (a, b, x), (c, d, y) = poses[:, 0].unbind(-1), poses[:, 1].unbind(-1)
    angle = torch.atan2(c, d)
    tall = torch.hypot(c, d)
    wide = (a * d - b * c) / tall
    shear = (a * c + b * d) / tall**2
    return {
        "rotation": angle[:, None],
        "scale": (wide * tall).abs().log()[:, None] / 2,
        "aspect": (wide / tall).abs().log()[:, None],
        "shear": shear[:, None],
        "translation": torch.stack([x, y], dim=1),
    }


def decompose_points(points: Tensor, half: Tensor) -> dict[Component, Tensor]:
    """Points on the digit, M x Q x 2 in pixels, by the similarities that take their mean over images nearest to them.

    As in Procrustes analysis (Gower, 1975): `rotation` and `scale` of the similarity, in the units of `decompose`;
    `translation` of the points' middle; `deformation`, M x 2Q, how far the points lie from where the similarity takes
    them, on a digit that is shown upright and as large as its frame, in pixels and divided by the root of Q. `half`:
    half of the frame's width and height.
    """
    middle = points.mean(dim=1)
    seen = torch.view_as_complex(points - middle[:, None])
    mean = seen.mean(dim=0)
    similarity = (seen * mean.conj()).sum(dim=1) / mean.abs().square().sum()
    frame = pixel_grid(_POINTS, points).flatten(0, 1) * half
    size = (frame.square().sum() / mean.abs().square().sum() / len(mean)).sqrt()
    left = (seen / similarity[:, None] - mean) * size
    return {
        "rotation": similarity.angle()[:, None],
        "scale": similarity.abs().log()[:, None],
        "translation": middle,
        "deformation": torch.view_as_real(left).flatten(1),
    }


def group_means(values: Tensor, group: Tensor | None) -> Tensor:
    """For each of M images the mean of the values, M x k, of all that are of its `group` (M), or of all: M x k."""
    if group is None:
        return values.mean(dim=0).expand_as(values)
    numbers, number = group.unique(return_inverse=True)
    sums = values.new_zeros(len(numbers), values.shape[1]).index_add(0, number, values)
    return torch.index_select(sums / number.bincount()[:, None], 0, number)


# --- how far it varies ------------------------------------------------------------------------------------------------


def spreads(components: Components, digit: Tensor | None = None) -> tuple[Spread, ...]:
    """How far each component varies before and after, among all images or among those of one `digit` (M).

    Empty where a number is beyond all bounds, or no digit is shown twice.
    """
    found = {name: [spread(values, digit) for values in pair] for name, pair in components.items()}
    if not all(isfinite(number) for pair in found.values() for number in pair):
        return ()
    return tuple(Spread(component=name, before=before, after=after) for name, (before, after) in found.items())


def spread(values: Tensor, digit: Tensor | None = None) -> float:
    """The root mean square distance of values, M x k, from their mean; or each from the mean of its digit's.

    The latter is what it would be of many images of each digit: the means of a few lie near to them.
    """
    lost = 0 if digit is None else len(digit.unique())
    return float(((values - group_means(values, digit)).square().sum() / (len(values) - lost)).sqrt())


def turns_left(
    components: Components,
    components_of_a_digit: Components,
    labels: Tensor,
    digit: Tensor,
    half_turns: Collection[int] = (),
) -> tuple[float | None, float | None, float | None, float | None]:
    """How digits of one kind still differ in rotation: AlignmentMetrics' four `turn_`, of M images of classes `labels`.

    Of a digit there are those of the M images and of others after them, that show the same digits distorted otherwise;
    `digit` has the number of each one's. None where rotation does not vary.
    """
    nothing = None, None, None, None
    if "rotation" not in components or "rotation" not in components_of_a_digit:
        return nothing
    if spread(components["rotation"][0]) < LEAST["rotation"][0]:
        return nothing
    period = torch.where(torch.isin(labels, torch.tensor([*half_turns], dtype=labels.dtype)), 180.0, 360.0).double()
    first = dict(zip(reversed(digit[: len(labels)].tolist()), reversed(range(len(labels))), strict=True))
    pair = torch.tensor([first[number] for number in digit[len(labels) :].tolist()])
    turn = components_of_a_digit["rotation"][1][:, 0]
    apart = (
        torch.remainder(turn[pair] - turn[len(labels) :] + period[pair] / 2, period[pair]) - period[pair] / 2
    ).abs()
    within = []
    for values in components["rotation"]:
        phase = values[:, 0] * (2 * torch.pi / period)
        mean = group_means(torch.stack([phase.sin(), phase.cos()], dim=1), labels)
        from_mean = torch.remainder(phase - torch.atan2(*mean.unbind(-1)) + torch.pi, 2 * torch.pi) - torch.pi
        squares = (from_mean * period / (2 * torch.pi)).square()[:, None]
        of_class = [group_means(squares, labels)[labels == label][0].sqrt() for label in labels.unique()]
        within.append(float(torch.stack(of_class).mean()))
    return float(apart.median()), float((apart > _LARGE_TURN).double().mean()), within[0], within[1]


def residual_curves(components: Components) -> tuple[ResidualCurve, ...]:
    """What is left of each component against what there was of it: see ResidualCurve and AlignmentMetrics.

    None of a component that hardly varies, or hardly of half of the images, of fewer than 80 values, and of one of
    which what is left is beyond numbers, as with a transformer that has diverged.
    """
    found = []
    for component, (before, after) in components.items():
        parts = min(_PARTS, before.numel() // _LEAST_IN_A_PART // 4 * 4)
        if component == "rotation":
            after = before + torch.remainder(after - before + 180, 360) - 180
        done, left = ((values - values.mean(dim=0)).flatten() for values in (before, after))
        least = LEAST[component][0]
        if component == "deformation" or not parts or spread(before) < least:
            continue
        if not bool(done.abs().median() > least * _HARDLY) or not bool(left.isfinite().all()):
            continue
        order = done.argsort(stable=True)
        done_by_part, left_by_part = (values[order].tensor_split(parts) for values in (done, left))
        found.append(
            ResidualCurve(
                component=component,
                before=tuple(float(part.mean()) for part in done_by_part),
                after=tuple(float(part.mean()) for part in left_by_part),
                varies=tuple(float(part.std()) for part in left_by_part),
            )
        )
    return tuple(found)


# --- does it find the digit? ------------------------------------------------------------------------------------------
#
# The region that it samples against the digit's frame, in the digit's own pixels. Seen from the digit, its frame is an
# upright rectangle, and a sampled region is a polygon, whatever the distortion was. Where the maps are
# affine, regions overlap as much there as on the canvas.


def regions(maps: Sequence[Map], sources: Tensor, digit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a transformer samples of M images, which show the `digit` (M) -th of `sources` (N x C x H x W, uint8).

    Each M: the overlap (IoU) of the sampled region with the digit's frame, the same once the common pose is taken off
    (0 where there is none), and the share of the digit's ink that the region covers.
    """
    lines_stay_straight = all(isinstance(one.family, MatrixFamily) for one in maps)
    sides = edge(maps[0].theta, 1 if lines_stay_straight else _STEPS_WHERE_BENT)
    half, frame = maps[0].half, maps[0].reads
    iou, covered = frame_overlap(read_points(maps, sides) * half, frame)
    ink = sources.double().sum(dim=1).flatten(1)[digit]
    inked = (ink * covered).sum(dim=1) / ink.sum(dim=1).clamp(min=1)
    _, poses = poses_of(maps)
    common = canonical_pose(poses)
    if common is None or is_singular(common):
        return iou, torch.zeros_like(iou), inked
    # The mean of poses that differ is smaller than they are: with their mean size, the geometric one, it is not.
    sizes = torch.linalg.det(poses).abs().clamp(min=_SINGULAR).log()
    common[:2, :2] *= (sizes.mean().exp() / torch.linalg.det(common).abs()).sqrt()
    home = torch.linalg.inv(common)  # from the digit's pixels to where the output shows them in the mean
    held = read_points(maps, sides * half @ home[:2, :2].mT + home[:2, 2]) * half
    return iou, frame_overlap(held, frame)[0], inked


def frame_overlap(polygon: Tensor, frame: Size = (DIGIT, DIGIT)) -> tuple[Tensor, Tensor]:
    """The overlap (IoU, M) of polygons that do not cross themselves, M x V x 2 in the digit's centred pixels, with its
    frame.

    And which of the frame's pixels they cover, by the even-odd rule: M x HW, bool. A ray to the right from a point
    inside a polygon crosses an odd number of its sides.
    """
    height, width = frame
    x, y = (pixel_grid(frame, polygon).flatten(0, 1) * polygon.new_tensor([width / 2, height / 2])).unbind(-1)
    found = []
    for some in polygon.split(_CHUNK):
        odd = torch.zeros(len(some), len(x), dtype=torch.bool)
        for start, end in zip(some.unbind(1), some.roll(-1, dims=1).unbind(1), strict=True):
            (from_x, from_y), (to_x, to_y) = start[:, :, None].unbind(1), end[:, :, None].unbind(1)
            crossing = from_x + (to_x - from_x) * (y - from_y) / (to_y - from_y)
            odd ^= ((from_y > y) != (to_y > y)) & (x < crossing)
        found.append(odd)
    covered = torch.cat(found)
    shared = covered.sum(dim=1)
    (x, y), (next_x, next_y) = polygon.unbind(-1), polygon.roll(-1, dims=1).unbind(-1)
    area = (x * next_y - next_x * y).sum(dim=1).abs() / 2
    return shared / (height * width + torch.maximum(area, shared) - shared), covered

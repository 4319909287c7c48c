"""Poses: the score is right where the answer is known, for every family, and says nothing of what it cannot know."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from stn_train.evaluation.alignment import (
    Map,
    is_singular,
    pose_components,
    poses_of,
    read_points,
    residual_curves,
    rotations,
    spreads,
    turns_left,
)
from stn_train.evaluation.metrics import ResidualCurve, Spread
from stn_train.geometry import (
    AFFINE,
    ATTENTION,
    FAMILIES,
    HOMOGRAPHY,
    PROJECTIVE,
    ROTATION,
    TPS,
    TRANSLATION,
    Family,
    MatrixFamily,
    ThinPlateSpline,
)
from stn_train.report.measures import removed

COUNT = 90
CANVAS = 60 / 40
"""Width over height of what is read."""
SQUARE = 1.0
AFFINES = [family for family in FAMILIES.values() if isinstance(family, MatrixFamily) and not family.projective]


def near_identity(family: Family, spread: float = 0.05, seed: int = 0) -> Tensor:
    noise = torch.randn(COUNT, len(family.identity), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(family.identity, dtype=torch.float64) + spread * noise


def same_for_all(theta: Tensor) -> Tensor:
    return theta[:1].expand(COUNT, -1)


def spreads_of(maps: list[Map], digit: Tensor | None = None) -> tuple[Spread, ...]:
    return spreads(pose_components(maps, digit), digit)


def curves_of(maps: list[Map]) -> tuple[ResidualCurve, ...]:
    return residual_curves(pose_components(maps))


def scores(maps: list[Map], digit: Tensor | None = None) -> dict[str, float]:
    return {spread.component: removed(spread) for spread in spreads_of(maps, digit) if removed(spread) is not None}


def some_of(maps: list[Map], index: list[int]) -> list[Map]:
    return [Map(one.family, one.theta[index], one.aspect) for one in maps]


@dataclass(frozen=True)
class InverseSpline(Family):
    """A spline's inverse, as a family: what undoes a spline is none itself."""

    spline: ThinPlateSpline

    def points(self, theta: Tensor, target: Tensor, aspect: float = 1.0) -> Tensor:
        return self.spline.inverse_points(theta, target, aspect)

    def grid(self, theta: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Tensor:
        raise NotImplementedError

    def inverse_points(self, theta: Tensor, source: Tensor, aspect: float = 1.0) -> Tensor:
        return self.spline.points(theta, source, aspect)


def pair(family: Family) -> list[Map]:
    """A distortion of the family, and two transformers in a row that undo it exactly up to a canonical pose K."""
    done = Map(family, near_identity(family, 0.05), CANVAS)
    pose = Map(AFFINE, same_for_all(near_identity(AFFINE, 0.2, seed=1)), CANVAS)
    if isinstance(family, MatrixFamily):
        return [
            done,
            Map(HOMOGRAPHY, torch.linalg.inv(family.matrix(done.theta, done.aspect)).flatten(1), CANVAS),
            pose,
        ]
    spline = InverseSpline("inverse", family.identity, family)
    return [done, Map(spline, done.theta, CANVAS), pose]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_undoes_the_distortion_up_to_a_common_pose_scores_100(family):
    found = scores(pair(family))
    assert found
    assert all(score == pytest.approx(100, abs=1e-4) for score in found.values())


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("transformer", [AFFINE, PROJECTIVE, TPS], ids=lambda family: family.name)
def test_what_does_the_same_to_every_image_scores_0(family, transformer):
    done = Map(family, near_identity(family, 0.1), CANVAS)
    constant = Map(transformer, same_for_all(near_identity(transformer, 0.1, seed=1)), CANVAS)
    found = scores([done, constant])
    assert found
    assert all(score == pytest.approx(0, abs=1e-6) for score in found.values())


@pytest.mark.parametrize("name", ["rotation", "similarity", "affine"])
@pytest.mark.parametrize("share", [0.5, 0.25, -0.5, 2.5])
def test_the_share_of_the_angle_that_is_turned_back_is_the_score(name, share):
    angle = torch.linspace(-0.8, 0.7, COUNT, dtype=torch.float64)[:, None]
    turn = -share * angle
    theta = {
        "rotation": turn,
        "similarity": torch.cat([turn.cos(), turn.sin(), 0 * turn, 0 * turn], dim=1),
        "affine": ROTATION.matrix(turn)[:, :2].flatten(1),
    }[name]
    found = scores([Map(ROTATION, angle, SQUARE), Map(FAMILIES[name], theta, SQUARE)])
    assert found == {"rotation": pytest.approx(100 * (1 - abs(1 - share)))}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_pose_of_each_digits_own_counts_among_digits_and_not_among_draws_of_one(family):
    digit = torch.arange(COUNT) % (COUNT // 3)
    maps = [*pair(family), Map(AFFINE, near_identity(AFFINE, 0.2, seed=2)[digit], CANVAS)]
    of_a_digit = scores(maps, digit)
    assert of_a_digit
    assert all(score == pytest.approx(100, abs=1e-4) for score in of_a_digit.values())
    assert any(scores(maps)[component] < 50 for component in of_a_digit)


@pytest.mark.parametrize("lies", ["as it was written", "anywhere", "upside down, of each tenth"])
@pytest.mark.parametrize("projects", [0.0, 1e-3])
def test_what_is_left_between_draws_does_not_depend_on_how_a_digit_lies(lies, projects):
    generator = torch.Generator().manual_seed(0)
    digit = torch.arange(1000) % 500
    angle = torch.rand(1000, 1, generator=generator, dtype=torch.float64) * 2 - 1
    left = 0.09 * torch.randn(1000, 1, generator=generator, dtype=torch.float64)
    own = {
        "as it was written": torch.zeros(500, 1, dtype=torch.float64),
        "anywhere": torch.randn(500, 1, generator=generator, dtype=torch.float64),
        "upside down, of each tenth": math.pi * (torch.arange(500, dtype=torch.float64)[:, None] % 10 == 0),
    }[lies][digit]
    flat = ROTATION.matrix(left + own - angle)
    flat[:, 2, 0] = projects
    maps = [Map(ROTATION, angle, SQUARE), Map(HOMOGRAPHY, flat.flatten(1), SQUARE)]
    found = {spread.component: spread for spread in spreads_of(maps, digit)}
    assert found["rotation"].after == pytest.approx(math.degrees(0.09), rel=0.05)


@pytest.mark.parametrize("share", [0.5, -0.5])
@pytest.mark.parametrize("family", [AFFINE, TPS], ids=lambda family: family.name)
def test_rotation_scale_and_translation_score_alike_whether_maps_bend_or_not(family, share):
    """Of a transformer that bends every image the same, and turns, scales and moves it back by a share."""
    amount = torch.linspace(-0.4, 0.4, COUNT, dtype=torch.float64)[:, None]
    similarity = ROTATION.matrix(amount) * torch.cat([amount.exp(), amount.exp(), 1 + 0 * amount], 1)[:, None]
    undone = ROTATION.matrix(-share * amount) * (-share * amount).exp()[:, :, None]
    theta = undone[:, :2].flatten(1) * torch.tensor([1.0, 1, 0, 1, 1, 0], dtype=torch.float64)
    bent = Map(family, same_for_all(near_identity(family, 0.02, seed=1)), SQUARE)
    found = scores([Map(AFFINE, similarity[:, :2].flatten(1), SQUARE), Map(AFFINE, theta, SQUARE), bent])
    expected = pytest.approx(100 * (1 - abs(1 - share)), abs=1e-6)
    assert {name: found[name] for name in ("rotation", "scale")} == {"rotation": expected, "scale": expected}
    assert "deformation" not in found, "there was none"


def test_deformation_does_not_depend_on_how_a_digit_lies_nor_on_its_size():
    bent = Map(TPS, near_identity(TPS, 0.1), SQUARE)
    lies = ROTATION.matrix(near_identity(ROTATION, 0.5, seed=1))[:, :2].flatten(1) * 1.5
    alone, turned = (
        {one.component: one for one in spreads_of([Map(AFFINE, theta, SQUARE), bent])}
        for theta in (near_identity(AFFINE, 0.0), lies)
    )
    assert alone["deformation"].after > 1
    assert turned["deformation"].after == pytest.approx(alone["deformation"].after, rel=0.03)
    assert turned["rotation"].after > 5 * alone["rotation"].after


def test_what_two_draws_of_each_digit_leave_is_what_many_would():
    many = 4000
    generator = torch.Generator().manual_seed(0)
    angle = 0.1 * torch.randn(2 * many, 1, generator=generator, dtype=torch.float64)
    digit = torch.arange(2 * many) % many
    untouched = Map(AFFINE, torch.tensor(AFFINE.identity, dtype=torch.float64).expand(2 * many, -1), SQUARE)
    angles, *_ = spreads_of([Map(ROTATION, angle, SQUARE), untouched], digit)
    assert (angles.before, angles.after) == (pytest.approx(math.degrees(0.1), rel=0.03),) * 2


def test_digits_that_are_drawn_once_leave_nothing_to_compare():
    assert spreads_of(pair(AFFINE), torch.arange(COUNT)) == ()


def test_half_the_shift_the_size_and_the_shear_score_50():
    half = torch.linspace(-0.3, 0.4, COUNT, dtype=torch.float64)[:, None]
    for component, (family, whole, theta) in {
        "scale": (FAMILIES["scale"], (2 * half).exp(), (-half).exp()),
        "translation": (TRANSLATION, torch.cat([2 * half, half], 1), torch.cat([-half, -half / 2], 1)),
        "shear": (FAMILIES["shear"], torch.cat([2 * half, 0 * half], 1), torch.cat([-half, 0 * half], 1)),
    }.items():
        found = scores([Map(family, whole, CANVAS), Map(family, theta, CANVAS)])
        assert found == {component: pytest.approx(50)}


def test_spreads_are_in_degrees_logarithms_and_the_digits_own_pixels():
    # two kinds of images: turned by 10 degrees and small, turned back and large; shown through an output that is 3 zoom
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(COUNT // 2)[:, None]
    identity = Map(ATTENTION, torch.tensor([[1 / 3, 0.1, 0.0]], dtype=torch.float64).expand(COUNT, 3), SQUARE)

    def before(family, theta):
        (found,) = [
            spread for spread in spreads_of([Map(family, theta, SQUARE), identity]) if removed(spread) is not None
        ]
        assert found.after == pytest.approx(found.before)
        return found.component, found.before

    assert before(ROTATION, math.radians(10) * sign) == ("rotation", pytest.approx(10))
    assert before(FAMILIES["scale"], (0.2 * sign).exp()) == ("scale", pytest.approx(0.2))
    assert before(TRANSLATION, torch.cat([0.5 * sign, 0 * sign], 1)) == (
        "translation",
        pytest.approx(7),
    )  # of 14 pixels
    assert before(FAMILIES["shear"], torch.cat([0.3 * sign, 0 * sign], 1)) == ("shear", pytest.approx(0.3))


def test_angles_are_compared_around_the_circle():
    """Digits upside down, some a little to the left, some to the right: they vary by a little, not by 360 degrees."""
    angle = math.pi + torch.linspace(-0.1, 0.1, COUNT, dtype=torch.float64)[:, None]
    identity = Map(ROTATION, torch.zeros(COUNT, 1, dtype=torch.float64), SQUARE)
    (found,) = [spread for spread in spreads_of([Map(ROTATION, angle, SQUARE), identity]) if spread.before > 0.1]
    assert found.before == pytest.approx(math.degrees(float(angle.std(correction=0))))


@pytest.mark.parametrize("distortion", [AFFINE, PROJECTIVE, TPS], ids=lambda family: family.name)
def test_shrinking_to_a_dot_does_not_score(distortion):
    """Following an affine digit's middle, it has found the place; nothing else is undone by showing next to nothing."""
    done = Map(distortion, near_identity(distortion, 0.1), SQUARE)
    middle = torch.zeros(COUNT, 2, dtype=torch.float64)
    if distortion is AFFINE:  # where its D is 0
        matrix = AFFINE.matrix(done.theta)
        middle = -torch.linalg.solve(matrix[:, :2, :2], matrix[:, :2, 2:])[:, :, 0]
    dot = torch.cat([torch.full((COUNT, 1), 1e-3, dtype=torch.float64), middle], 1)
    found = scores([done, Map(ATTENTION, dot, SQUARE)])
    place = found.pop("translation")
    assert place == pytest.approx(100 if distortion is AFFINE else 0, abs=1)
    assert found
    assert all(score < 5 for score in found.values())


def test_a_point_has_no_pose():
    dot = torch.tensor([[0.0, 0.1, 0.1]], dtype=torch.float64).expand(COUNT, 3)
    for distortion in (AFFINE, PROJECTIVE, TPS):
        maps = [Map(distortion, near_identity(distortion), CANVAS), Map(ATTENTION, dot, CANVAS)]
        assert is_singular(poses_of(maps)[1].mean(dim=0))
        assert spreads_of(maps) == ()


def test_one_image_has_no_spread():
    assert spreads_of(some_of(pair(AFFINE), [3])) == ()


def test_a_transformer_that_turns_what_was_upright_is_not_scored_but_told():
    angle = torch.linspace(-0.2, 0.2, COUNT, dtype=torch.float64)[:, None]
    upright = Map(ROTATION, torch.zeros(COUNT, 1, dtype=torch.float64), SQUARE)
    angles = spreads_of([upright, Map(ROTATION, angle, SQUARE)])[0]
    assert (angles.component, removed(angles)) == ("rotation", None)
    assert angles.after == pytest.approx(math.degrees(float(angle.std(correction=0))))


def test_stages_compose_in_the_order_of_the_forward_pass():
    shift = torch.cat([near_identity(TRANSLATION, 0.3), near_identity(ATTENTION, 0.2, seed=3)], 1)
    stages = (Map(TRANSLATION, shift[:, :2], CANVAS), Map(ATTENTION, shift[:, 2:], SQUARE))
    maps = [Map(PROJECTIVE, near_identity(PROJECTIVE), CANVAS), *stages]
    points = torch.rand(COUNT, 7, 2, dtype=torch.float64) * 2 - 1
    zoomed = points * shift[:, None, 2:3] + shift[:, None, 3:]
    # on a canvas of 40 x 60 a step to the right is half the canvas's height
    expected = zoomed + shift[:, None, :2] * torch.tensor([40 / 60, 1.0])
    torch.testing.assert_close(read_points(maps[1:], points), expected)


@pytest.mark.parametrize("family", AFFINES, ids=lambda family: family.name)
def test_poses_are_what_points_do(family):
    maps = pair(family)
    points = torch.rand(9, 2, dtype=torch.float64) * 2 - 1
    _, composed = poses_of(maps)
    torch.testing.assert_close(
        points @ composed[:, :2, :2].mT + composed[:, None, :2, 2], read_points(maps, points) * 14
    )


@pytest.mark.parametrize("family", [PROJECTIVE, TPS], ids=lambda family: family.name)
def test_the_nearest_affine_pose_of_an_affine_map_is_itself(family):
    """An affine map, said in the words of another family, and told by its points."""
    matrix = AFFINE.matrix(near_identity(AFFINE, 0.2))
    corners = TPS.points_of(near_identity(TPS, 0))
    theta = (corners @ matrix[:, :2, :2].mT + matrix[:, None, :2, 2]).flatten(1)
    if family is PROJECTIVE:
        theta = matrix.flatten(1)[:, :8]
    bent = Map(TPS, near_identity(TPS, 0), SQUARE)  # the identity, so that points are asked for
    _, poses = poses_of([bent, Map(family, theta, SQUARE)])
    torch.testing.assert_close(poses[:, :2] / 14, matrix[:, :2])


def test_one_image_shown_as_a_point_leaves_nothing_to_tell():
    """The logarithm of its size is not a number to average."""
    theta = near_identity(ATTENTION, 0.1)
    theta[5, 0] = 0.0
    assert spreads_of([Map(AFFINE, near_identity(AFFINE), SQUARE), Map(ATTENTION, theta, SQUARE)]) == ()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_of_what_is_undone_up_to_a_common_pose_nothing_is_left_of_any_amount(family):
    found = curves_of(pair(family))
    assert found
    for response in found:
        assert [*response.before] == sorted(response.before)
        assert max(map(abs, (*response.after, *response.varies))) < 1e-4 * max(response.before)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_does_the_same_to_every_image_leaves_every_amount_as_it_was(family):
    done = Map(family, near_identity(family, 0.1), CANVAS)
    constant = Map(AFFINE, same_for_all(near_identity(AFFINE, 0.1, seed=1)), CANVAS)
    found = curves_of([done, constant])
    assert found
    for response in found:
        assert response.after == pytest.approx(response.before, abs=1e-6)


@pytest.mark.parametrize("about", [0.0, 3.0])
def test_an_angle_that_is_turned_back_up_to_an_end_is_left_beyond_it(about):
    """Also where half of the angles lie beyond half a turn, and so seem to lie on the other side."""
    angle = about + torch.linspace(-0.9, 0.9, 160, dtype=torch.float64)[:, None]
    end = 0.45  # where a part ends
    turn = -(angle - about).clamp(-end, end)
    maps = [Map(ROTATION, angle, SQUARE), Map(ROTATION, turn, SQUARE)]
    (response,) = curves_of(maps)
    assert response.component == "rotation"
    assert len(response.before) == 8
    for before, after in zip(response.before, response.after, strict=True):
        beyond = max(abs(before) - math.degrees(end), 0)
        assert after == pytest.approx(math.copysign(beyond, before), abs=1e-6)


def test_how_far_what_is_left_of_an_amount_varies_is_told():
    generator = torch.Generator().manual_seed(0)
    angle = torch.linspace(-0.5, 0.5, 4000, dtype=torch.float64)[:, None]
    own = 0.1 * torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    (response,) = curves_of([Map(ROTATION, angle, SQUARE), Map(ROTATION, own - angle, SQUARE)])
    assert response.varies == pytest.approx([math.degrees(0.1)] * 20, rel=0.2)
    assert response.after == pytest.approx([0] * 20, abs=1.5)


def test_of_few_images_no_amounts_are_told():
    angle = torch.linspace(-0.5, 0.5, 79, dtype=torch.float64)[:, None]
    assert curves_of([Map(ROTATION, angle, SQUARE), Map(ROTATION, -angle, SQUARE)]) == ()


@pytest.mark.parametrize("far", [1e15, 1e18, 1e30])
def test_of_a_transformer_that_has_diverged_only_numbers_are_told(far):
    theta = far * torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = [Map(AFFINE, near_identity(AFFINE, 0.1), SQUARE), Map(TRANSLATION, theta, SQUARE)]
    assert all(math.isfinite(number) for one in curves_of(maps) for number in (*one.after, *one.varies))
    assert all(math.isfinite(one.after) for one in spreads_of(maps))


def test_a_turn_is_counted_the_shorter_way_round():
    """Every fifth digit is turned on by 120 degrees, some past half a turn: of no amount is more left for it."""
    angle = torch.linspace(-1.5, 1.5, 10_000, dtype=torch.float64)[:, None]
    turned = math.radians(120) * (torch.arange(10_000)[:, None] % 5 == 0).double()
    (response,) = curves_of([Map(ROTATION, angle, SQUARE), Map(ROTATION, turned, SQUARE)])
    assert response.after == pytest.approx(response.before, abs=0.5)


def test_as_many_parts_lie_on_either_side_of_each_half():
    for count in (80, 199, 300, 10_000):
        angle = torch.linspace(-1, 1, count, dtype=torch.float64)[:, None]
        (response,) = curves_of([Map(ROTATION, angle, SQUARE), Map(ROTATION, -angle, SQUARE)])
        assert len(response.before) % 4 == 0
        assert all(len(part) == len(response.before) for part in (response.after, response.varies))


def test_where_most_images_lie_at_the_mean_no_amounts_are_told():
    shift = torch.zeros(100, 2, dtype=torch.float64)
    shift[:, 0] = torch.linspace(-0.5, 0.5, 100)
    still = Map(TRANSLATION, torch.zeros(100, 2, dtype=torch.float64), SQUARE)
    assert curves_of([Map(TRANSLATION, shift, SQUARE), still]) == ()


@pytest.mark.parametrize("family", [AFFINE, TPS], ids=lambda family: family.name)
def test_of_no_images_there_is_nothing_to_tell(family):
    none = pose_components(some_of(pair(family), []))
    assert (spreads(none), residual_curves(none)) == ((), ())


@pytest.mark.parametrize("reach", [90, 180])
def test_a_transformer_that_does_the_same_to_all_leaves_each_rotation_whatever_it_does(reach):
    """Also where digits are turned all around, so that their poses cancel out in the mean."""
    angle = torch.deg2rad(torch.arange(-reach, reach, 2, dtype=torch.float64))[:, None]
    sheared = torch.tensor([1.2, 0.5, 0.1, -0.3, 0.6, 0.0], dtype=torch.float64).expand(len(angle), -1)
    maps = [Map(ROTATION, angle, SQUARE), Map(AFFINE, sheared, SQUARE)]
    before, after = rotations(maps)["rotation"]
    added = torch.deg2rad(after - before)
    torch.testing.assert_close(torch.polar(torch.ones_like(added), added - added[0]).real, torch.ones_like(added))
    found = scores(maps)
    assert found.pop("rotation") == pytest.approx(0, abs=1e-6)
    assert not found, "nothing but rotation varies"


def test_upright_or_upside_down_all_but_the_half_turn_is_removed():
    """As an equivariant network leaves digits: half of them upright and half upside down, which has no mean pose."""
    done = near_identity(FAMILIES["similarity"], 0.2)
    half = torch.arange(COUNT) % 2 * math.pi
    flipped = Map(ROTATION, half[:, None].double(), SQUARE)
    matrix = FAMILIES["similarity"].matrix(done)
    undone = Map(HOMOGRAPHY, torch.linalg.inv(matrix).flatten(1), SQUARE)
    left = {
        one.component: one.after for one in spreads_of([Map(FAMILIES["similarity"], done, SQUARE), undone, flipped])
    }
    assert left.pop("rotation") == pytest.approx(90, abs=1)
    assert all(spread == pytest.approx(0, abs=1e-6) for spread in left.values())


def test_mirrored_at_random_there_is_no_pose_to_tell():
    mirrored = torch.tensor([[1.0, 0, 0, 0, 1, 0], [-1.0, 0, 0, 0, 1, 0]], dtype=torch.float64).repeat(COUNT // 2, 1)
    upright = Map(ROTATION, torch.zeros(COUNT, 1, dtype=torch.float64), SQUARE)
    assert spreads_of([upright, Map(AFFINE, mirrored, SQUARE)]) == ()


def test_what_is_left_of_rotation_counts_within_a_digit_and_within_a_class():
    angle = torch.linspace(-60, 60, 12, dtype=torch.float64)
    of_class = torch.tensor([0.0, 3.0] * 6, dtype=torch.float64) * 20  # each class has a pose of its own: no spread
    labels = torch.tensor([0, 1] * 6)
    of_digit = torch.cat([torch.zeros(12), torch.tensor([4.0] * 10 + [30.0, 176.0])]).double()
    left, digit = torch.stack([of_class, of_class]), torch.arange(12).repeat(2)
    components = {"rotation": (angle[:, None], left[0][:, None])}
    twice = {"rotation": (torch.cat([angle, angle])[:, None], (left.flatten() + of_digit)[:, None])}
    median, large, before, within = turns_left(components, twice, labels, digit)
    assert (median, large) == (pytest.approx(4), pytest.approx(2 / 12))
    assert within == pytest.approx(0, abs=1e-6)
    assert before == pytest.approx(
        float(torch.stack([angle[::2].std(correction=0), angle[1::2].std(correction=0)]).mean()), rel=0.01
    )
    _, large, _, _ = turns_left(components, twice, labels, digit, half_turns=(1,))
    assert large == pytest.approx(1 / 12), "176 degrees of a digit that looks the same upside down are 4"


def test_a_half_turn_is_none_for_classes_that_look_the_same_upside_down():
    angle = torch.linspace(-60, 60, 12, dtype=torch.float64)[:, None]
    flipped = torch.tensor([0.0, 180.0] * 6, dtype=torch.float64)[:, None]
    found = [
        turns_left(
            {"rotation": (angle, flipped)},
            {"rotation": (torch.cat([angle] * 2), torch.cat([flipped] * 2))},
            torch.zeros(12),
            torch.arange(12).repeat(2),
            halves,
        )
        for halves in ((), (0,))
    ]
    assert found[0][3] == pytest.approx(90)
    assert found[1][3] == pytest.approx(0, abs=1e-6)


def test_where_rotation_does_not_vary_nothing_is_told_of_it():
    still = torch.zeros(12, 1, dtype=torch.float64)
    pair = {"rotation": (torch.cat([still] * 2), torch.cat([still] * 2))}
    assert turns_left({"rotation": (still, still)}, pair, torch.zeros(12), torch.arange(12).repeat(2)) == (
        None,
        None,
        None,
        None,
    )
    assert turns_left({}, {}, torch.zeros(12), torch.arange(12).repeat(2)) == (None, None, None, None)

"""The equivariant localisation network: what it does to images that are turned, moved and scaled, and congealing."""

import pytest
import torch
from torch import Tensor

from stn_train.data.sources import load_images
from stn_train.errors import UserError
from stn_train.evaluation.classify import rotated_images
from stn_train.geometry import AFFINE, ROTATION, SIMILARITY, ink_place
from stn_train.models.equivariant import ANGLES, EquivariantLocalisation, congeal
from stn_train.models.localisation import equivariant
from stn_train.models.network import Network, along_output, build_model
from stn_train.specs import ModelSpec

ROOM = 8


def digits(count: int = 200) -> tuple[Tensor, Tensor]:
    """Digits, M x 1 x 44 x 44, with room all around; and their labels."""
    _, test = load_images("digits")
    few = test.subset(torch.arange(count))
    return torch.nn.functional.pad(few.images.float() / 255, [ROOM] * 4), few.labels


def network(seed: int = 0) -> EquivariantLocalisation:
    torch.manual_seed(seed)
    return EquivariantLocalisation(1).eval()


def angle(theta: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(theta[:, 1], theta[:, 0]))


def apart(degrees: Tensor, period: float = 360) -> Tensor:
    return (torch.remainder(degrees + period / 2, period) - period / 2).abs()


@torch.no_grad()
@pytest.mark.parametrize("quarters", [1, 2, -1])
def test_images_turned_by_quarters_have_their_theta_turned(quarters):
    images, _ = digits()
    before, after = network()(images), network()(images.rot90(-quarters, (2, 3)))
    assert apart(angle(after) - angle(before) - 90 * quarters).quantile(0.98) < 0.1, "but for two peaks as high"
    torch.testing.assert_close(after[:, :2].norm(dim=1), before[:, :2].norm(dim=1))


@torch.no_grad()
@pytest.mark.parametrize("bins", [8, -5, 11])
@pytest.mark.parametrize("seed", [0, 1])
def test_turned_images_have_the_logits_of_their_angle_shifted(bins, seed):
    images, _ = digits()
    localise = network(seed)
    before, after = (
        localise.angles(localise.read(each)[1]) for each in (images, rotated_images(images, bins * 360 / ANGLES))
    )
    missed = (after - before.roll(bins, 1)).std() / after.std()
    assert missed < 0.3, "all that reading between pixels blurs"


@torch.no_grad()
@pytest.mark.parametrize(("down", "across"), [(3, -5), (-6, 0)])
def test_moved_images_have_their_theta_moved_and_nothing_else(down, across):
    images, _ = digits()
    before = network()(images)
    after = network()(images.roll((down, across), (2, 3)))
    moved = torch.tensor([across, down]) * 2 / images.shape[-1]
    torch.testing.assert_close(after[:, 2:], before[:, 2:] + moved, rtol=0, atol=1e-5)
    assert apart(angle(after) - angle(before)).quantile(0.95) < 0.1


@torch.no_grad()
def test_a_canvas_of_another_size_or_shape_shows_the_same():
    images, _ = digits()
    wide = torch.nn.functional.pad(images, [10, 30, 0, 0])
    twice = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    before = network()(images)
    torch.testing.assert_close(network()(wide)[:, 2], before[:, 2] - 20 / 44, rtol=0, atol=1e-5)
    assert apart(angle(network()(wide)) - angle(before)).quantile(0.95) < 0.1
    torch.testing.assert_close(ink_place(twice), ink_place(images), rtol=0.02, atol=1e-5)


@torch.no_grad()
def test_a_batch_is_its_items():
    images, _ = digits(8)
    localise = network()
    torch.testing.assert_close(localise(images), torch.cat([localise(image[None]) for image in images]))


def test_without_ink_it_stays_in_the_middle_and_all_is_finite():
    theta = network()(torch.zeros(2, 1, 28, 28))
    assert torch.equal(theta[:, 2:], torch.zeros(2, 2))
    assert torch.isfinite(theta).all()


def test_the_angle_can_be_learnt_by_what_follows():
    images, _ = digits(8)
    localise = network()
    localise(images)[:, :2].sum().backward()
    first = next(localise.network.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize("reach", [60.0, 180.0])
def test_congealing_finds_by_how_much_each_image_of_a_class_was_turned(reach):
    images, labels = digits(60)
    image = images[labels == 3][:1]  # looks otherwise upside down
    degrees = torch.linspace(-reach, reach, 200)
    turned = torch.cat([rotated_images(image, float(by)) for by in degrees])
    localise, labels = network(), torch.zeros(200, dtype=torch.int64)
    templates = congeal(localise, turned, labels, 1)
    found = templates.turns(localise.read(turned)[1], labels).argmax(dim=1) * (360 / ANGLES)
    off = found - degrees
    middle = torch.exp(1j * torch.deg2rad(off)).mean().angle()
    assert apart(off - torch.rad2deg(middle)).max() < 2 * 360 / ANGLES
    if reach < 90:
        assert abs(torch.rad2deg(middle)) < 10, "the mean of the turns is upright"


def test_congealing_is_the_same_each_time():
    images, labels = digits(100)
    first, second = (congeal(network(), images, labels, 10) for _ in range(2))
    assert torch.equal(first.patterns, second.patterns)
    assert torch.equal(first.prior, second.prior)


def test_a_class_that_no_image_showed_has_a_template_too():
    images, labels = digits(100)
    few = labels < 9
    localise = network()
    templates = congeal(localise, images[few], labels[few], 10)
    turns = templates.turns(localise.read(images[~few])[1], labels[~few])
    assert torch.allclose(turns.sum(dim=1), torch.ones(len(turns)))


def equivariant_network(angle_noise: float = 0.0) -> Network:
    torch.manual_seed(0)
    model = {"name": "noisy", "base": "st_cnn_equivariant", "transformer": {"angle_noise": angle_noise}}
    return build_model(ModelSpec.model_validate(model), (44, 44), 60_000)


def test_the_classifier_also_reads_where_each_pixel_was_sampled():
    network = equivariant_network().eval()
    images, _ = digits(4)
    read: list[Tensor] = []
    network.classifier.register_forward_pre_hook(lambda module, given: read.append(given[0]))
    with torch.no_grad():
        network(images)
        theta = network.transformer.localisation(images)
    assert torch.equal(read[0][:, :1], network.front(images))
    torch.testing.assert_close(read[0][:, 1:], SIMILARITY.grid(theta, (28, 28)).movedim(-1, 1))


@pytest.mark.parametrize("aspect", [1.0, 1.5])
@pytest.mark.parametrize("degrees", [17.0, -140.0])
def test_canonical_coordinates_stay_where_image_and_output_turn_together(degrees, aspect):
    theta = torch.tensor([[0.5, 0.3, 0.2, -0.1], [-0.2, 0.7, -0.4, 0.3]], dtype=torch.float64)
    grid = SIMILARITY.grid(theta, (5, 7), aspect)
    turn = torch.full((2, 1), torch.pi * degrees / 180, dtype=torch.float64)
    turned = ROTATION.points(turn, grid.flatten(1, 2), aspect).view_as(grid)
    before, after = along_output(grid, aspect), along_output(turned, aspect)
    torch.testing.assert_close(after, before)
    upright = torch.cat([theta[:, :2].norm(dim=1, keepdim=True), torch.zeros(2, 1), before.mean((1, 2))], dim=1)
    expected = SIMILARITY.grid(upright, (5, 7), aspect) * torch.tensor([aspect, 1.0])
    torch.testing.assert_close(before, expected, msg="the same size and distance from the middle, and no turn")


@torch.no_grad()
def test_behind_it_with_canonical_coordinates_a_turned_image_is_the_same():
    model = ModelSpec(name="m", base="st_cnn_equivariant", transformer={"coordinates": "canonical"})
    whole = build_model(model, (44, 44), 120_000).eval()
    images, _ = digits()
    before = whole(images)
    for quarters in (1, 2, 3):
        missed = (whole(images.rot90(quarters, (2, 3))) - before).abs().amax(dim=1)
        assert missed.quantile(0.98) < 1e-2 * before.std(), "but for two peaks as high"


def test_what_it_learns_from_templates_the_classifier_takes_no_part_in():
    network = equivariant_network()
    images, labels = digits(64)
    localisation = network.transformer.localisation
    templates = congeal(localisation, images, labels, 10)
    logits, loss = network.with_pose_loss(images, None, labels, templates)
    logits.sum().backward(retain_graph=True)
    assert all(each.grad is None for each in localisation.parameters())
    loss.backward()
    assert any(each.grad.abs().sum() > 0 for each in localisation.parameters())


@torch.no_grad()
def test_with_noise_the_classifier_reads_digits_that_are_turned_further_in_training_alone():
    """Those that its pose loss sees, and what it predicts, stay as they are."""
    images, labels = digits(64)
    noisy, sure = (equivariant_network(angle_noise) for angle_noise in (20.0, 0.0))
    templates = congeal(sure.transformer.localisation, images, labels, 10)
    thetas: dict[float, list[Tensor]] = {20.0: [], 0.0: []}
    losses = []
    for network, read in zip((noisy, sure), thetas.values(), strict=True):
        network.transformer.register_forward_pre_hook(lambda module, given, read=read: read.append(given[1]))
        torch.manual_seed(1)
        losses.append(network.train().with_pose_loss(images, None, labels, templates)[1])
        network.eval()(images)
    turned, evaluated = (apart(angle(a) - angle(b)) for a, b in zip(*thetas.values(), strict=True))
    assert losses[0] == losses[1]
    assert turned.square().mean().sqrt() == pytest.approx(20, rel=0.3)
    assert evaluated.max() == 0


@torch.no_grad()
def test_as_a_rotation_its_theta_is_the_angle_of_the_similarity():
    images, _ = digits()
    torch.manual_seed(0)
    rotates = equivariant(ROTATION, (44, 44), 1).eval()
    missed = torch.rad2deg(rotates(images)[:, 0]) - angle(network()(images))
    assert rotates(images).shape == (len(images), 1)
    assert apart(missed).max() < 1e-3


def test_it_is_for_similarities_and_rotations():
    with pytest.raises(UserError, match=r"similarit.*affine"):
        equivariant(AFFINE, (28, 28), 1)
    with pytest.raises(ValueError, match="similarity"):
        ModelSpec.model_validate({"name": "a", "classifier": "cnn", "transformer": {"localisation": "equivariant"}})

"""Test-time augmentation: images turned, poses turned with them, and the mean of a network's answers."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from stn_train.evaluation import classify as classify_module
from stn_train.evaluation.classify import classify, rotated_images, rotated_poses
from stn_train.geometry import HOMOGRAPHY, bilinear_sampler
from stn_train.models.network import build_model, measure_model
from stn_train.specs import ModelSpec, baseline_of

CPU = torch.device("cpu")


def images(size: tuple[int, int] = (28, 28)) -> Tensor:
    """Smooth images, N x 1 x H x W and uint8, that are empty near their edges, so that turning them loses nothing."""
    noise = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    inner = nn.functional.interpolate(noise, size=(12, 12), mode="bilinear")
    high, wide = ((side - 12) // 2 for side in size)
    return (nn.functional.pad(inner, (wide, wide, high, high)) * 255).byte()


class Decided(nn.Module):
    """Logits far from each other, so that what an image is taken for shows in the probabilities."""

    def forward(self, logits: Tensor) -> Tensor:
        return 20 * logits


def network(*front: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*front, nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10), Decided())


@pytest.mark.parametrize("size", [(28, 28), (28, 36)])
def test_images_turn_clockwise(size):
    wanted = rotate(images(size).float(), -20.0, interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(rotated_images(images(size).float(), 20.0), wanted, rtol=0, atol=0.1)


@pytest.mark.parametrize("size", [(28, 28), (28, 36)])
def test_at_its_turned_pose_a_turned_image_shows_what_the_image_showed(size):
    pose = torch.tensor([[0.4, 0.1, 0.1, -0.1, 0.5, 0.05, 0.02, 0.01, 1]]).expand(6, -1)
    read = images(size).float()
    shown = bilinear_sampler(read, HOMOGRAPHY.grid(pose, (16, 16)))

    def off(degrees: float) -> float:
        """How far what is shown of the images turned by 25 degrees is off, as a share of their mean."""
        turned = HOMOGRAPHY.grid(rotated_poses(pose, degrees, size[1] / size[0]), (16, 16))
        return float((bilinear_sampler(rotated_images(read, 25.0), turned) - shown).abs().mean() / shown.mean())

    assert off(25.0) < 0.06, "what reading twice between pixels costs"
    assert min(off(-25.0), off(0.0)) > 0.2


def test_the_answer_is_the_mean_of_the_probabilities_for_the_image_and_each_of_its_turns():
    one, read = network(), images()
    with torch.no_grad():
        wanted = torch.stack(
            [one(rotated_images(read.float() / 255, angle)).softmax(1) for angle in (0.0, -30.0, 50.0)]
        )
    found = classify(one, read, CPU, "float32", tta_angles=(-30.0, 50.0)).logits.exp()
    torch.testing.assert_close(found, wanted.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, wanted[0], atol=0.1)


def test_turns_all_around_see_the_same_in_an_image_turned_by_one_of_their_steps():
    one = network()
    upright, lying = (
        classify(one, each, CPU, "float32", tta_angles=(90.0, 180.0, -90.0)).logits
        for each in (images(), images().rot90(1, (2, 3)))
    )
    torch.testing.assert_close(upright, lying, rtol=1e-4, atol=1e-3)


def test_theta_is_that_of_the_image_as_it_is():
    torch.manual_seed(0)
    st = build_model(ModelSpec.model_validate("st_cnn"), (28, 28), 100_000)
    nn.init.normal_(st.transformer.localisation[-1].weight, std=0.1)
    plain, turned = (
        classify(st, images(), CPU, "float32", tta_angles=tta_angles) for tta_angles in ((), (-15.0, 15.0))
    )
    assert torch.equal(plain.thetas[0], turned.thetas[0])
    assert len(turned.thetas) == 1


@pytest.mark.parametrize("size", [(28, 28), (28, 36)])
def test_an_oracle_is_given_the_turned_pose_of_each_turned_image(monkeypatch, size):
    monkeypatch.setattr(classify_module, "BATCH", 4)
    spec = ModelSpec.model_validate({"name": "oracle", "base": "st_cnn", "transformer": {"pose": "oracle"}})
    oracle = build_model(spec, size, 100_000)
    seen: list[Tensor] = []
    oracle.transformer.register_forward_hook(lambda transformer, read, output: seen.append(output))
    shift = torch.linspace(-0.2, 0.2, 6)[:, None]
    poses = torch.tensor([[0.4, 0, 0, 0, 0.4, 0, 0, 0, 1]]) + shift * torch.tensor([[0, 0, 1, 0, 0, 1, 0, 0, 0]])
    classify(oracle, images(size), CPU, "float32", poses, tta_angles=(30.0,))
    as_it_is, turned = torch.cat(seen[::2]), torch.cat(seen[1::2])
    read = images(size).float() / 255
    wanted = bilinear_sampler(read, HOMOGRAPHY.grid(poses, (28, 28)))
    torch.testing.assert_close(as_it_is, wanted, rtol=0, atol=1e-5)
    assert (turned - wanted).abs().mean() < 0.06 * wanted.mean(), "what reading twice between pixels costs"
    at_the_pose_not_turned = bilinear_sampler(rotated_images(read, 30.0), HOMOGRAPHY.grid(poses, (28, 28)))
    assert (at_the_pose_not_turned - wanted).abs().mean() > 0.2 * wanted.mean()


@pytest.mark.parametrize("name", ["cnn", "st_cnn"])
def test_multiply_adds_are_those_of_all_that_a_network_is_asked(name):
    plain, turned = (
        measure_model(ModelSpec.model_validate({"name": "made_up", "base": name, **changes}), (28, 28), 100_000)
        for changes in ({}, {"tta_angles": [-15, 15]})
    )
    assert (turned.parameters, turned.macs) == (plain.parameters, 3 * plain.macs)


def test_a_model_is_compared_with_one_of_the_same_turns():
    once, sure, st = (
        ModelSpec.model_validate(model)
        for model in (
            "cnn",
            {"name": "sure", "base": "cnn", "tta_angles": [-15, 15]},
            {"name": "st", "base": "st_cnn", "tta_angles": [15, -15]},
        )
    )
    assert baseline_of(st, (once, sure, st)) == sure
    assert baseline_of(st, (once, st)) is None

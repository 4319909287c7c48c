"""Test-time augmentation: looks at turned copies, in evaluation only."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from stn_train.models import Model, build_model
from stn_train.models.looks import Looks
from stn_train.specs import ModelSpec, baseline_of

LOOKS = {"count": 3, "turn": 15.0}


def images(size: tuple[int, int] = (28, 28)) -> Tensor:
    """Images that are empty near their edges, so that turning them loses nothing."""
    noise = torch.rand(6, 1, *size, generator=torch.Generator().manual_seed(0))
    inner = torch.zeros_like(noise)
    inner[..., 8:-8, 8:-8] = noise[..., 8:-8, 8:-8]
    return inner


class Decided(nn.Module):
    """Logits far from each other, so that what an image is taken for shows in the probabilities."""

    def forward(self, logits: Tensor) -> Tensor:
        return 20 * logits


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10), Decided())


def build(name: str, **changes: object) -> Model:
    torch.manual_seed(0)
    return build_model(ModelSpec.model_validate({"name": "made_up", "like": name, **changes}), (28, 28), 50_000)


def test_in_training_it_is_the_classifier():
    one = classifier()
    assert torch.equal(Looks(one, 5, 20.0).train()(images()), one(images()))


@pytest.mark.parametrize("size", [(28, 28), (28, 36)])
def test_it_is_the_mean_of_the_probabilities_of_turned_images(size):
    one = classifier()
    turned = [
        rotate(images(size), angle, interpolation=InterpolationMode.BILINEAR)
        for angle in (-20.0, -10.0, 0.0, 10.0, 20.0)
    ]
    wanted = torch.stack([one(each).softmax(1) for each in turned]).mean(dim=0)
    found = Looks(one, 5, 20.0).eval()(images(size)).exp()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert not torch.allclose(found, one(images(size)).softmax(1), atol=0.1)


def test_looks_all_around_see_the_same_in_an_image_turned_by_one_of_their_steps():
    all_around = Looks(classifier(), 4, 135.0).eval()
    torch.testing.assert_close(all_around(images()), all_around(images().rot90(1, (2, 3))), rtol=1e-4, atol=1e-4)


def test_a_batch_is_looked_at_image_by_image():
    looks = Looks(classifier(), 3, 15.0).eval()
    alone = torch.cat([looks(image[None]) for image in images()])
    torch.testing.assert_close(looks(images()), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "st_cnn"])
def test_a_model_with_looks_has_the_same_weights_and_its_classifier_works_more(name):
    plain, looking = build(name), build(name, looks=LOOKS)
    assert (looking.width, looking.parameters) == (plain.width, plain.parameters)
    for mine, theirs in zip(looking.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    of_the_classifier = (looking.multiply_adds - plain.multiply_adds) // 2
    once_more = build(name, looks=LOOKS | {"count": 4}).multiply_adds
    assert once_more - looking.multiply_adds == of_the_classifier
    assert (of_the_classifier == plain.multiply_adds) == (name == "cnn")
    read = images()
    assert torch.equal(looking.network.train()(read), plain.network.train()(read))
    assert not torch.equal(looking.network.eval()(read), plain.network.eval()(read))


def test_a_transformer_inside_the_classifier_does_not_go_with_looks():
    with pytest.raises(ValidationError, match=r"leave out looks, or transformer\.at"):
        build("st_cnn", transformer={"at": [2]}, looks=LOOKS)


def test_a_model_is_compared_with_one_that_looks_as_often():
    once, often, st = (
        ModelSpec.model_validate(model)
        for model in (
            "cnn",
            {"name": "often", "like": "cnn", "looks": LOOKS},
            {"name": "st", "like": "st_cnn", "looks": LOOKS},
        )
    )
    assert baseline_of(st, (once, often, st)) == often
    assert baseline_of(st, (once, st)) is None

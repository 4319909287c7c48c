"""insert_transformer: in front of and inside any network, nothing changes at the start, and all of it learns."""

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

from stn_train import SpatialTransformer, insert_transformer
from stn_train.errors import UserError
from stn_train.geometry import FAMILIES, thin_plate_spline
from stn_train.models.localisation import LOCALISATIONS, conv
from stn_train.models.transformer import ThetaHead
from stn_train.specs import READ_OFF

OF_ANY_FAMILY = [name for name in LOCALISATIONS if name not in READ_OFF]  # which start at no identity


class Branched(nn.Module):
    """A small network with the ways of a large one: a list, a call by hand, a call twice, a second argument."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)) for _ in range(2)])
        self.twice = nn.Conv2d(6, 6, 1)
        self.scaled = Scaled()
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        for stage in self.stages:
            maps = maps + stage(maps).relu()
        maps = self.scaled(self.twice(self.twice(maps)), factor=2.0)
        return self.head(nn.functional.dropout(maps, training=self.training).mean(dim=(2, 3)))


class Scaled(nn.Module):
    def forward(self, maps: Tensor, factor: float) -> Tensor:
        return maps * factor


class Picky(nn.Module):
    """Takes images of another size."""

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] != 7:
            raise AssertionError
        return images


def branched() -> Branched:
    torch.manual_seed(0)
    return Branched().eval()


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("before", ["", "layer2", "layer3.1.conv2"])
def test_resnet_answers_as_before_at_the_start_and_all_of_it_gets_a_gradient(before):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).eval()
    images = random_images(2, 3, 64, 48)
    expected = model(images).detach()
    transformed = insert_transformer(model, before=before, image=(3, 64, 48))
    assert (transformed is model) == bool(before)
    logits = transformed(images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    (transformer,) = (module for module in transformed.modules() if isinstance(module, SpatialTransformer))
    nn.init.normal_(transformer.localisation[-1].weight, std=0.01)
    transformed.train()(images).square().sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in transformed.parameters())


@pytest.mark.parametrize("before", ["", "stem", "stages.1", "stages.0.1", "scaled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_place_and_any_family_start_as_the_identity(before, family):
    model, images = branched(), random_images(4, 3, 20, 28)
    expected = model(images)
    transformed = insert_transformer(model, before=before, family=family, image=(3, 20, 28))
    torch.testing.assert_close(transformed(images), expected, rtol=0, atol=1e-5)
    one_by_one = torch.cat([transformed(image[None]) for image in images])
    torch.testing.assert_close(transformed(images), one_by_one, rtol=0, atol=1e-5)


def test_it_warps_what_the_submodule_reads():
    model, images = branched(), random_images(2, 3, 16, 16)
    by_hand = branched()
    insert_transformer(model, before="stages.0", image=(3, 16, 16))
    transformer = model.get_submodule("stages.0.transformer")
    nn.init.normal_(transformer.localisation[-1].bias, std=0.3)
    with torch.no_grad():
        maps = by_hand.stem(images)
        maps = maps + by_hand.stages[0](transformer(maps)).relu()
        maps = maps + by_hand.stages[1](maps).relu()
        maps = by_hand.scaled(by_hand.twice(by_hand.twice(maps)), factor=2.0)
        torch.testing.assert_close(model(images), by_hand.head(maps.mean(dim=(2, 3))))


def test_looking_for_the_place_changes_nothing_and_modes_stay_as_they_are():
    model = branched().train()
    model.stages[0].eval()
    before = copy.deepcopy(model.state_dict())
    modes = {name: module.training for name, module in model.named_modules()}
    state = torch.get_rng_state()
    localisation = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 6))
    torch.set_rng_state(state)
    whole = insert_transformer(model, localisation=localisation, image=(3, 12, 12))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert whole.training
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_several_can_be_inserted_also_two_in_a_row():
    model, images = branched(), random_images(2, 3, 16, 16)
    expected = model(images)
    for before in ("stages.1", "stem", "stem", "stages.1"):
        insert_transformer(model, before=before, image=(3, 16, 16))
    assert sum(isinstance(module, SpatialTransformer) for module in model.modules()) == 4
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-5)


def test_a_copy_of_the_model_has_a_transformer_of_its_own():
    """As the average of the weights is one."""
    model, images = insert_transformer(branched(), before="stages.0", image=(3, 16, 16)), random_images(2, 3, 16, 16)
    other = copy.deepcopy(model)
    nn.init.normal_(other.get_submodule("stages.0.transformer.localisation")[-1].bias)
    assert not torch.allclose(other(images), model(images), atol=1e-3)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), model(images))


@pytest.mark.parametrize("name", OF_ANY_FAMILY)
def test_a_localisation_network_can_be_named_given_or_made(name):
    size = (3, 32, 32)
    for given in (name, LOCALISATIONS[name], LOCALISATIONS[name](FAMILIES["affine"], (32, 32), 3)):
        transformed = insert_transformer(branched(), localisation=given, image=size)
        wanted = LOCALISATIONS[name](FAMILIES["affine"], (32, 32), 3)
        assert str(transformed.transformer.localisation) == str(wanted)


def test_defaults_fit_the_feature_map_and_a_family_or_an_output_can_be_given():
    model = insert_transformer(branched(), image=(3, 24, 20))
    assert str(model.transformer.localisation) == str(conv(FAMILIES["affine"], (24, 20), 3))
    assert model.transformer.output_size == (24, 20)
    small = insert_transformer(branched(), image=(3, 6, 20))
    assert isinstance(small.transformer.localisation[-1], ThetaHead)
    spline = insert_transformer(branched(), family=thin_plate_spline(3), output_size=(9, 11), image=(3, 24, 20))
    assert spline.transformer(random_images(2, 3, 24, 20)).shape == (2, 3, 9, 11)


@pytest.mark.parametrize("before", ["", "stages.1"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_transformer_is_of_the_models_type(before, dtype):
    model, images = branched().to(dtype), random_images(2, 3, 16, 16).to(dtype)
    expected = model(images)
    model = insert_transformer(model, before=before, image=(3, 16, 16))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model(images).dtype == dtype
    torch.testing.assert_close(model(images), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("model", "reason"), [(Scaled(), "missing 1 required positional argument: 'factor'"), (Picky(), "AssertionError")]
)
def test_whatever_a_model_raises_is_told(model, reason):
    with pytest.raises(UserError, match=f"the model does not take an image of 3 x 8 x 8: .*{reason}"):
        insert_transformer(model, image=(3, 8, 8))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"before": "stages.3"}, r"the model has no submodule 'stages\.3'; did you mean 'stages\.[01]'\?"),
        ({"before": "stam"}, r"the model has no submodule 'stam'; did you mean 'stem'\?"),
        ({"before": "head"}, r"in front of 'head': it gets a tensor of 2 dimensions, not a feature map"),
        ({"before": "twice"}, r"in front of 'twice': it is called 2 times in a forward pass"),
        ({"before": "stages"}, r"in front of 'stages': it is called 0 times in a forward pass"),
        ({"image": (1, 16, 16)}, r"the model does not take an image of 1 x 16 x 16: "),
        ({"family": "afine"}, r"there is no family 'afine'; did you mean 'affine'\?"),
        ({"localisation": "convv"}, r"there is no localisation network 'convv'; did you mean 'conv'\?"),
        ({"localisation": "conv_paper"}, r"conv_paper needs 28 x 28 pixels or more and gets 16 x 16; conv takes that"),
    ],
)
def test_mistakes_are_told_in_a_sentence_and_leave_the_model_as_it_was(changes, sentence):
    model = branched()
    with pytest.raises(UserError, match=sentence) as told:
        insert_transformer(model, **{"image": (3, 16, 16), **changes})
    assert "\n" not in str(told.value)
    assert str(model) == str(branched())

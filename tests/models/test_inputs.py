"""What a network is given: all that it was not made for is told in a sentence, with both shapes."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stn_train import load_network
from stn_train.errors import UserError
from stn_train.geometry import AFFINE, FAMILIES, thin_plate_spline
from stn_train.models.insert import insert_transformer
from stn_train.models.localisation import LOCALISATIONS
from stn_train.models.network import Network, build_model
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import MODELS, READ_OFF, ExperimentSpec, trials_of
from stn_train.training.checkpoint import save_checkpoint
from stn_train.training.loop import TrainingState

OF_ANY_FAMILY = [name for name in LOCALISATIONS if name not in READ_OFF]  # which start at no identity

EVERY = {**FAMILIES, "tps_5": thin_plate_spline(5)}


def loaded(folder: Path, model: object = "st_cnn_paper") -> Network:
    """A network that comes back from a checkpoint; made for 1 x 42 x 42."""
    spec = {"name": "made_up", "datasets": ["rts"], "models": [model], "training": {}, "parameters": None}
    (trial,) = trials_of(ExperimentSpec.model_validate(spec))
    network = build_model(trial.model, trial.dataset.canvas)
    save_checkpoint(folder / "checkpoint.pt", trial, TrainingState.start(network, trial.training))
    return load_network(folder / "checkpoint.pt")


# --- loaded networks ----------------------------------------------------------------------------------------------

WRONG = {
    "2 x 1 x 43 x 42": torch.zeros(2, 1, 43, 42),
    "2 x 1 x 28 x 28": torch.zeros(2, 1, 28, 28),
    "2 x 3 x 42 x 42": torch.zeros(2, 3, 42, 42),
    "2 x 42 x 42": torch.zeros(2, 42, 42),
    "42 x 42": torch.zeros(42, 42),
    r"2 x 1 x 42 x 42 of torch.uint8; convert it, as by images.float\(\) / 255": torch.zeros(2, 1, 42, 42).byte(),
    "2 x 1 x 42 x 42 of torch.int64; convert it": torch.zeros(2, 1, 42, 42, dtype=torch.int64),
    "a ndarray": torch.zeros(2, 1, 42, 42).numpy(),
}


ANY_SIZE = ("group_cnn", "polar_cnn", *(name for name in MODELS if name.endswith(("_equivariant", "_moments"))))


@pytest.mark.parametrize("name", [*(name for name in MODELS if name not in ANY_SIZE), "deep"])
def test_a_loaded_network_says_what_it_expects_and_what_it_was_given(name, tmp_path):
    deep = {"name": "deep", "base": "st_cnn", "transformer": {"before": [1, 2]}}
    network = loaded(tmp_path, deep if name == "deep" else name)
    assert network(torch.rand(2, 1, 42, 42)).shape == (2, 10)
    for found, images in WRONG.items():
        sentence = rf"^the network expects a floating-point tensor of N x 1 x 42 x 42, and was given {found}"
        with pytest.raises(UserError, match=sentence):
            network(images)


@pytest.mark.parametrize(
    "transformer",
    [
        {"localisation": "keypoints"},
        {"localisation": "keypoints", "before": [1]},
        {"localisation": "equivariant", "family": "similarity"},
        {"pose": "oracle"},
    ],
    ids=str,
)
def test_a_network_without_a_layer_for_one_size_takes_others_and_warns(transformer, tmp_path):
    network = loaded(tmp_path, {"name": "free", "base": "st_cnn", "transformer": transformer})
    with pytest.warns(UserWarning, match="trained on images of 42 x 42 pixels and was given 60 x 50"):
        assert network(torch.rand(2, 1, 60, 50)).shape == (2, 10)
    with pytest.raises(UserError, match="expects a floating-point tensor of N x 1 x H x W, and was given 2 x 2 x 60"):
        network(torch.rand(2, 2, 60, 50))
    inserted = insert_transformer(model(), image=(3, 32, 40), localisation="keypoints")
    assert inserted(torch.rand(2, 3, 50, 70)).shape == (2, 2, 28, 36)


# --- their range --------------------------------------------------------------------------------------------------

IMAGES = torch.rand(4, 1, 42, 42, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("images", [255 * IMAGES, (IMAGES - 0.1307) / 0.3081, IMAGES - 1], ids=["255", "mean", "below"])
def test_a_loaded_network_warns_of_values_that_it_was_not_trained_on(images, dtype, tmp_path):
    network = loaded(tmp_path).to(dtype)
    with pytest.warns(UserWarning, match="trained on pixels from 0 to 1 .* divide pixels from 0 to 255 by 255") as told:
        network(images.to(dtype))
    assert [warning.filename for warning in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fine in (IMAGES, IMAGES + 0.1 * torch.randn(IMAGES.shape), IMAGES[:0]):
            network(fine.to(dtype))


def test_a_loop_is_warned_once(tmp_path):
    loaded(tmp_path)
    code = (
        "import torch, stn_train\n"
        f"network = stn_train.load_network({str(tmp_path / 'checkpoint.pt')!r})\n"
        "for _ in range(5):\n"
        "    network(255 * torch.rand(2, 1, 42, 42))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert told.count("UserWarning: the network was trained on pixels from 0 to 1") == 1


@pytest.mark.filterwarnings("error:the network was trained")
def test_values_that_cannot_be_looked_at_are_not(tmp_path):
    """What is traced, mapped, faked or on `meta`."""
    network = loaded(tmp_path).requires_grad_(False)
    any_batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(network, (IMAGES,), dynamic_shapes=(any_batch,)).module()
    torch.testing.assert_close(program(IMAGES[:3]), network(IMAGES[:3]))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), network(IMAGES))
    mapped = torch.func.vmap(lambda image: network(image[None])[0])(IMAGES)
    torch.testing.assert_close(mapped, network(IMAGES), rtol=1e-4, atol=1e-4)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert network(mode.from_tensor(IMAGES)).shape == (4, 10)
    assert network.to("meta")(IMAGES.to("meta")).shape == (4, 10)


# --- transformers by themselves, and inserted ---------------------------------------------------------------------


class Says(nn.Module):
    """A localisation network that puts out a tensor of this shape, N for the number of images."""

    def __init__(self, *shape: int | str) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros([len(images) if length == "N" else int(length) for length in self.shape])


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))


@pytest.mark.parametrize("family", EVERY.values(), ids=list(EVERY))
@pytest.mark.parametrize("more", [-1, 1, 40])
def test_a_theta_of_another_length_is_told_with_both(family, more):
    has, needs = len(family.identity) + more, len(family.identity)
    sentence = (
        rf"gives {{0}} x {has} for {{0}} x 3 x 16 x 12, and {{0}} x {needs} is needed: .*{family.name} has {needs}"
    )
    with pytest.raises(UserError, match=sentence.format(2)):
        SpatialTransformer(Says("N", has), family, (8, 8))(torch.zeros(2, 3, 16, 12))
    with pytest.raises(UserError, match=sentence.format(1)):
        insert_transformer(model(), image=(3, 16, 12), family=family, localisation=Says("N", has))


@pytest.mark.parametrize(
    ("shape", "found"), [((6,), "6"), ((3, 6), "3 x 6"), (("N", 2, 3), "2 x 2 x 3"), ((1, 6), "1 x 6"), ((), "")]
)
def test_a_theta_of_other_axes_or_for_other_images_is_told(shape, found):
    with pytest.raises(UserError, match=f"gives {found} for 2 x 3 x 16 x 12, and 2 x 6 is needed"):
        SpatialTransformer(Says(*shape), AFFINE, (8, 8))(torch.zeros(2, 3, 16, 12))


@pytest.mark.parametrize("name", OF_ANY_FAMILY)
@pytest.mark.parametrize(("before", "map_size"), [("", (3, 32, 40)), ("2", (4, 30, 38))])
def test_a_localisation_network_made_for_others_is_told_with_both_shapes(name, before, map_size):
    channels, height, width = map_size
    images, family = torch.zeros(2, *map_size), FAMILIES["affine"]
    for other in ((channels + 1, height, width), *((channels, height + 9, width),) * (name != "keypoints")):
        made_for = LOCALISATIONS[name](family, other[1:], other[0])
        expects = "H x W" if name == "keypoints" else f"{other[1]} x {other[2]}"
        sentence = rf"expects a floating-point tensor of N x {other[0]} x {expects}, and was given {{}} x {channels} x"
        with pytest.raises(UserError, match=sentence.format(2)):
            SpatialTransformer(made_for, family, (8, 8))(images)
        with pytest.raises(UserError, match=sentence.format(1)):
            insert_transformer(model(), before=before, image=(3, 32, 40), localisation=made_for)


def test_so_is_one_of_the_users_own():
    own = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 6))
    with pytest.raises(UserError, match=r"does not take 2 x 3 x 20 x 16, torch.float32: .*\(2x960 and 768x6\)"):
        SpatialTransformer(own, AFFINE, (8, 8))(torch.zeros(2, 3, 20, 16))
    with pytest.raises(UserError, match=r"does not take 1 x 3 x 20 x 16, torch.float32: .*\(1x960 and 768x6\)"):
        insert_transformer(model(), image=(3, 20, 16), localisation=own)
    with pytest.raises(UserError, match="cannot read 1 x 3 x 20 x 16: the size is odd"):
        insert_transformer(model(), image=(3, 20, 16), localisation=Raises(ValueError("the size is odd")))


class Raises(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, images: Tensor) -> Tensor:
        raise self.error


def test_what_is_not_about_shapes_keeps_its_name():
    for error in (torch.OutOfMemoryError("no memory"), ValueError("the size is odd")):
        with pytest.raises(type(error), match=str(error)):
            SpatialTransformer(Raises(error), AFFINE, (8, 8))(torch.zeros(2, 3, 20, 16))


@pytest.mark.parametrize(
    ("images", "given"),
    [
        (torch.zeros(2, 3, 33, 40), "2 x 3 x 33 x 40"),
        (torch.zeros(2, 1, 32, 40), "2 x 1 x 32 x 40"),
        (torch.zeros(3, 32, 40), "3 x 32 x 40"),
        (torch.zeros(2, 3, 32, 40).byte(), "2 x 3 x 32 x 40 of torch.uint8; convert it"),
        (torch.zeros(2, 3, 32, 40, dtype=torch.int32), "2 x 3 x 32 x 40 of torch.int32; convert it"),
    ],
)
@pytest.mark.parametrize("way", ["by itself", "inserted"])
def test_what_a_transformer_does_not_read_is_told_in_a_sentence(images, given, way):
    if way == "inserted":
        network = insert_transformer(model(), image=(3, 32, 40))
    else:
        network = SpatialTransformer(LOCALISATIONS["fc_paper"](AFFINE, (32, 40), 3), AFFINE, (8, 8))
    assert network(torch.zeros(2, 3, 32, 40)).ndim == 4
    with pytest.raises(UserError, match=f"expects a floating-point tensor of N x .*, and was given {given}"):
        network(images)

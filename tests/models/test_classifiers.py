"""The convolution of images is `nn.Conv2d`, in values and gradients, whatever it computes in; and the CNN's widths."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stn_train.models.blocks import Convolution
from stn_train.models.classifiers import cnn


def two_alike(channels: int, kernel: object, dtype: torch.dtype, **options: Any) -> tuple[Convolution, nn.Conv2d]:
    torch.manual_seed(0)
    ours, theirs = (kind(channels, 5, kernel, **options).to(dtype) for kind in (Convolution, nn.Conv2d))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def maps_and_gradients(convolution: nn.Conv2d, images: Tensor) -> list[Tensor]:
    """What it puts out, and the gradients of a sum of all that, weighted, for its images, weights and biases."""
    images = images.clone().requires_grad_()
    maps = convolution(images)
    weights = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(maps.dtype)
    return [maps, *torch.autograd.grad(maps, [images, convolution.weight, convolution.bias], weights)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("channels", "kernel", "size", "options"),
    [
        (1, 9, (20, 20), {}),
        (1, 3, (9, 14), {"padding": 1}),
        (3, 9, (11, 18), {}),
        (4, 5, (11, 8), {}),
        (2, 7, (11, 18), {"padding": 3}),
        (1, (7, 5), (12, 9), {"padding": (3, 0)}),
        (1, (3, 5), (12, 9), {"padding": (0, 1)}),
        (1, 5, (12, 9), {"stride": 2}),
        (1, 5, (12, 9), {"dilation": 2}),
        (1, 5, (12, 9), {"padding": 1, "padding_mode": "circular"}),
        (1, 5, (12, 9), {"padding": "same"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_is_the_convolution_of_the_library(channels, kernel, size, options, count, layout, dtype):
    images = torch.rand(count, channels, *size, dtype=dtype).to(memory_format=layout)
    ours, theirs = (maps_and_gradients(one, images) for one in two_alike(channels, kernel, dtype, **options))
    near = 1e-12 if dtype == torch.float64 else 1e-4
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=near, atol=near)


def test_its_gradients_are_those_of_finite_differences_and_have_gradients():
    ours, _ = two_alike(1, 4, torch.float64)
    images = torch.rand(2, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, images)
    assert torch.autograd.gradgradcheck(ours, images)


def test_under_autocast_it_is_about_as_precise():
    ours, theirs = two_alike(1, 9, torch.float32)
    images = torch.rand(8, 1, 20, 20)
    exact = maps_and_gradients(theirs, images)
    with torch.autocast("cpu", torch.bfloat16):
        found, rounded = (maps_and_gradients(one, images) for one in (ours, theirs))
    assert found[0].dtype == torch.bfloat16
    for our, their, true in zip(found, rounded, exact, strict=True):
        assert our.dtype == their.dtype
        assert (our - true).norm() <= 1.1 * (their - true).norm()


def test_in_evaluation_its_maps_are_those_of_the_library_to_the_last_bit():
    ours, theirs = two_alike(1, 9, torch.float32)
    images = torch.rand(4, 1, 42, 42)
    assert torch.equal(ours.eval()(images), theirs(images))


def test_images_learn_from_frozen_weights():
    ours, theirs = two_alike(1, 5, torch.float32)
    images = torch.rand(4, 1, 12, 12, requires_grad=True)
    found = []
    for one in (ours.requires_grad_(False), theirs.requires_grad_(False)):
        found += torch.autograd.grad(one(images).square().sum(), images)
    torch.testing.assert_close(*found)
    assert ours.weight.grad is None


def test_it_computes_wherever_its_weights_are():
    ours = Convolution(1, 5, 5).to("meta")
    assert ours(torch.rand(2, 1, 6, 7, device="meta", requires_grad=True)).shape == (2, 5, 2, 3)


# --- widths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [28, 42, 60])
@pytest.mark.parametrize(("width", "tiled"), [(8.0, 8), (9.75, 8), (15.5, 16), (22.25, 22), (28.375, 24), (41.125, 40)])
def test_filters_fill_tiles_and_hidden_units_make_up_for_it(side, width, tiled):
    """As many weights as 3 x 3 convolutions of w, 2w, 2w and 2w filters and 8w hidden units have, without rounding."""
    network = cnn((side, side), 1, 10, width)
    filters = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert filters == [tiled, *[2 * tiled] * 3]
    weights = 9 * (width + 10 * width**2) + 16 * width**2 * (side // 8) ** 2
    found = sum(module.weight.numel() for module in network[:5].modules() if isinstance(module, nn.Conv2d | nn.Linear))
    assert found == pytest.approx(weights, abs=filters[-1] * (side // 8) ** 2 / 2 + 1), "half a hidden unit"

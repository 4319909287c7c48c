"""Laws of the thin plate splines: against scipy and affine maps, derivatives, inverses, folds, and what is kept."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stn_train.geometry import TPS, ThinPlateSpline, pixel_grid, thin_plate_spline

SPLINES = pytest.mark.parametrize("family", [TPS, thin_plate_spline(2), thin_plate_spline(3)], ids=lambda f: f.name)


def some_theta(family: ThinPlateSpline, spread: float, count: int = 6) -> Tensor:
    noise = torch.randn(count, len(family.identity), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.tensor(family.identity, dtype=torch.float64) + spread * noise


def some_points(count: int = 40) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 - 1.5


@SPLINES
@pytest.mark.parametrize("aspect", [1.0, 0.6, 2.0])
def test_the_spline_is_scipys(family, aspect):
    """scipy measures distances in the coordinates that it is given: x by the aspect, to have one unit."""
    theta, points = some_theta(family, 0.2), some_points()
    regular = np.array(family.identity).reshape(-1, 2)
    found = family.points(theta, points, aspect)
    for number in range(len(theta)):
        places = theta[number].view(-1, 2).numpy()
        spline = RBFInterpolator(regular * (aspect, 1), places, kernel="thin_plate_spline", degree=1)
        assert np.abs(found[number].numpy() - spline(points.numpy() * (aspect, 1))).max() < 1e-10


def test_control_points_run_row_by_row_from_the_upper_left():
    assert TPS.identity[:8] == pytest.approx((-1, -1, -1 / 3, -1, 1 / 3, -1, 1, -1))
    assert TPS.identity[-2:] == (1, 1)


@SPLINES
def test_each_control_point_goes_where_theta_says(family):
    theta = some_theta(family, 0.2)
    regular = torch.tensor(family.identity, dtype=torch.float64).view(-1, 2)
    assert torch.allclose(family.points(theta, regular, 1.5), theta.view(6, -1, 2), rtol=0, atol=1e-12)


@SPLINES
def test_control_points_that_move_affinely_make_an_affine_map(family):
    linear, shift = torch.tensor([[0.8, 0.3], [-0.2, 1.1]], dtype=torch.float64), torch.tensor([0.1, -0.4])
    theta = (torch.tensor(family.identity, dtype=torch.float64).view(-1, 2) @ linear + shift).view(1, -1)
    points = some_points()
    assert torch.allclose(family.points(theta, points, 1.5)[0], points @ linear + shift, rtol=0, atol=1e-12)


@SPLINES
def test_the_jacobian_is_that_of_finite_differences(family):
    theta, points, eps = some_theta(family, 0.2), some_points(), 1e-6
    steps = eps * torch.eye(2, dtype=torch.float64)
    expected = [
        (family.points(theta, points + h, 1.5) - family.points(theta, points - h, 1.5)) / (2 * eps) for h in steps
    ]
    assert torch.allclose(family.jacobian(theta, points, 1.5), torch.stack(expected, dim=-1), rtol=0, atol=1e-7)


@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_the_inverse_of_a_spline_that_does_not_fold_undoes_it(aspect):
    theta, points = some_theta(TPS, 0.1), some_points() / 1.5
    assert not TPS.folds(theta, (28, 28), aspect).any()
    there = TPS.points(theta, points, aspect)
    assert torch.allclose(TPS.inverse_points(theta, there, aspect), points.expand(6, 40, 2), rtol=0, atol=1e-8)


def test_the_inverse_of_a_spline_that_folds_is_a_place_that_goes_there_or_nothing():
    theta = some_theta(TPS, 0.4, count=20)
    assert TPS.folds(theta, (28, 28)).sum() > 15
    source = some_points()
    found = TPS.inverse_points(theta, source)
    there = TPS.points(theta, found)
    missing = found.isnan().any(dim=-1)
    assert 0 < missing.double().mean() < 0.5
    assert torch.allclose(there[~missing], source.expand(20, 40, 2)[~missing], rtol=0, atol=1e-4)


def test_a_fold_is_a_pixel_turned_inside_out():
    theta = torch.tensor([TPS.identity] * 3, dtype=torch.float64).view(3, 4, 4, 2)
    theta[1, 1, 1], theta[1, 1, 2] = theta[0, 1, 2], theta[0, 1, 1]  # two neighbours change places
    theta[2, ..., 0] *= -1  # a mirror image
    assert TPS.folds(theta.view(3, 32), (28, 28)).tolist() == [False, True, True]


# --- what is kept -------------------------------------------------------------------------------------------------


def gradient(aspect: float) -> Tensor:
    """Of what needs all that is kept for images of an aspect."""
    theta = torch.tensor([TPS.identity], requires_grad=True)
    grid, jacobian = TPS.grid(theta, (5, 7), aspect), TPS.jacobian(theta, torch.ones(1, 2), aspect)
    (grid.square().sum() + jacobian.square().sum() + TPS.points(theta, torch.ones(1, 2), aspect).sum()).backward()
    assert theta.grad is not None
    return theta.grad


class Uses(nn.Module):
    def __init__(self, aspect: float) -> None:
        super().__init__()
        self.aspect = aspect

    def forward(self, theta: Tensor) -> Tensor:
        grid, slopes = TPS.grid(theta, (5, 7), self.aspect), TPS.jacobian(theta, torch.ones(1, 2), self.aspect)
        return grid.sum() + slopes.sum() + TPS.points(theta, torch.ones(1, 2), self.aspect).sum()


def under(mode: Callable[[], AbstractContextManager[object]]) -> Callable[[float], None]:
    def use(aspect: float) -> None:
        with mode():
            Uses(aspect)(torch.tensor([TPS.identity], device="cpu"))
            TPS.grid(torch.tensor([TPS.identity]), (5, 7), aspect)

    return use


def exported(strict: bool) -> Callable[[float], object]:
    return lambda aspect: torch.export.export(Uses(aspect), (torch.tensor([TPS.identity]),), strict=strict)


def transformed(transform: Callable[..., Callable[..., Tensor]]) -> Callable[[float], object]:
    return lambda aspect: transform(Uses(aspect))(torch.tensor([TPS.identity])[None])


WAYS = {
    "inference": under(torch.inference_mode),
    "no gradient": under(torch.no_grad),
    "autocast": under(lambda: torch.autocast("cpu", torch.bfloat16)),
    "meta": under(lambda: torch.device("meta")),
    "fake": under(FakeTensorMode),
    "double by default": under(lambda: default_dtype(torch.float64)),
    "export": exported(strict=False),
    "strict export": exported(strict=True),
    "compile": lambda aspect: torch.compile(Uses(aspect), backend="aot_eager", fullgraph=True)(
        torch.tensor([TPS.identity], requires_grad=True)
    ),
    "vmap": transformed(torch.func.vmap),
    "grad": lambda aspect: torch.func.grad(Uses(aspect))(torch.tensor([TPS.identity])),
    "grad of grad": lambda aspect: torch.func.hessian(Uses(aspect))(torch.tensor([TPS.identity])),
    "jvp": lambda aspect: torch.func.jvp(
        Uses(aspect), (torch.tensor([TPS.identity]),), (torch.tensor([TPS.identity]),)
    ),
    "trace": lambda aspect: torch.jit.trace(Uses(aspect), torch.tensor([TPS.identity])),
}
"""Ways to need a spline's weights first; each gets an aspect for which nothing is kept yet."""


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_weights_first_needed_in_some_way_serve_every_other(way):
    aspect = 1.25 + list(WAYS).index(way) / 64
    WAYS[way](aspect)
    torch.testing.assert_close(gradient(aspect), gradient(aspect * (1 + 1e-9)), rtol=0, atol=1e-5)
    assert type(gradient(aspect)) is Tensor


def test_weights_are_kept_for_each_size_aspect_and_type():
    theta = some_theta(TPS, 0.1)
    for size in ((5, 7), (7, 5)):
        for aspect in (1.0, 1.5):
            for dtype in (torch.float64, torch.float32):
                grid = TPS.grid(theta.to(dtype), size, aspect)
                assert grid.dtype == dtype
                expected = TPS.points(theta, pixel_grid(size, theta).flatten(0, 1), aspect).view(6, *size, 2)
                assert torch.allclose(grid.double(), expected, rtol=0, atol=1e-5)

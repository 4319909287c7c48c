"""Localisation networks and families of the user's own, and keys that change a transformer's parts."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stn_train.errors import UserError
from stn_train.evaluation.alignment import maps_of, pose_components, spreads
from stn_train.evaluation.classify import recorded_warps
from stn_train.evaluation.diagnostics import diagnose
from stn_train.geometry import SHEAR, bilinear_sampler
from stn_train.models.localisation_parts import Frozen
from stn_train.models.network import Network, build_model, measure_model
from stn_train.models.own import load_family
from stn_train.models.transformer import SpatialTransformer, ThetaHead
from stn_train.specs import DatasetSpec, ModelSpec

PARTS = """
import torch
from torch import nn
from stn_train import Family, MatrixFamily, ThetaHead

def localise(family, size, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], 8), nn.ReLU(), ThetaHead(8, family))

class Localise(nn.Module):
    def __init__(self, family, size, channels):
        super().__init__()
        self.channels, self.head = channels, ThetaHead(channels, family)

    def forward(self, images):
        return self.head(images.mean(dim=(2, 3)))

def short(family, size, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], 1))

def anywhere(family, size, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], len(family.identity)))

def failing(family, size, channels):
    raise ValueError("no such size")

def without_size(family, channels):
    return None

def nothing(family, size, channels):
    return None

STRETCH = MatrixFamily("stretch", (1.0, 1.0), "a b", "a 0 0  0 b 0  0 0 1", normalised=True)

class Swirl(Family):
    def __init__(self):
        super().__init__("swirl", (0.0,))

    def points(self, theta, target, aspect=1.0):
        x, y = target.unbind(-1)
        angle = theta * (1 - target.square().sum(dim=-1)).clamp(min=0)
        return torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], dim=-1)

HALF = MatrixFamily("half", (0.5,), "s", "s 0 0  0 s 0  0 0 1")

class Crooked(Swirl):
    def grid(self, theta, size, aspect=1.0):
        return super().grid(theta, size, aspect) + 0.1

class Broken(Swirl):
    def points(self, theta, target, aspect=1.0):
        return theta.points

number = 3
"""


@pytest.fixture(autouse=True)
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "parts", raising=False)


def model(classifier: str = "cnn", **transformer: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": "mine", "classifier": classifier, "transformer": transformer})


def built(classifier: str = "cnn", spread: float = 0.0, **transformer: object) -> Network:
    torch.manual_seed(0)
    network = build_model(model(classifier, **transformer), (28, 28)).eval()
    for module in network.modules():
        if isinstance(module, ThetaHead) and spread:
            nn.init.normal_(module.bias, std=spread)
    return network


def theta_of(network: Network, images: torch.Tensor) -> torch.Tensor:
    with recorded_warps(network) as warps, torch.no_grad():
        network(images)
    return warps[0].theta


@pytest.mark.parametrize("localisation", ["parts:localise", "parts:Localise"])
@pytest.mark.parametrize("before", [[0], [0, 2]])
@pytest.mark.parametrize("family", ["parts:STRETCH", "parts:Swirl", "tps"])
def test_parts_of_ones_own_stand_anywhere_and_start_at_the_identity(
    localisation: str, family: str, before: list[int]
) -> None:
    network = built(family=family, localisation=localisation, before=before)
    images = torch.rand(3, 1, 28, 28)
    with recorded_warps(network) as warps:
        network(images)
    assert len(warps) == len(before)
    for warp in warps:
        torch.testing.assert_close(warp.output, warp.images)
    assert [diagnostics.moved for diagnostics in diagnose(network, images, torch.tensor([0, 1, 2]))] == [
        pytest.approx(0, abs=1e-6)
    ] * len(before)


@pytest.mark.parametrize("family", ["parts:STRETCH", "parts:Swirl"])
def test_a_budget_counts_parts_of_ones_own(family: str) -> None:
    load_family.cache_clear()
    spec = model(localisation="parts:localise", family=family)
    size, network = measure_model(spec, (28, 28), 60_000), build_model(spec, (28, 28), 60_000)
    assert sum(parameter.numel() for parameter in network.parameters()) == size.parameters
    assert abs(size.parameters - 60_000) <= 1200


def test_what_is_left_of_a_distortion_is_the_same_whoever_wrote_the_family() -> None:
    """A map is measured as the affine one that it is, after a rotation."""
    random = torch.Generator().manual_seed(0)
    scales, turns = torch.rand(30, 2, generator=random) + 0.5, torch.rand(30, generator=random) - 0.5
    zero = torch.zeros(30)
    as_affine = torch.stack([scales[:, 0], zero, zero, zero, scales[:, 1], zero], dim=1)
    turned = DatasetSpec.model_validate({"name": "turned", "rotation": 30})
    distortion = torch.stack([turns.cos(), -turns.sin(), zero, turns.sin(), turns.cos(), zero], dim=1)
    measured = []
    for family, theta in (("parts:STRETCH", scales), ("affine", as_affine)):
        stage = built(family=family, localisation="parts:localise").transformer
        assert isinstance(stage, SpatialTransformer)
        found = spreads(pose_components(maps_of(turned, [stage], distortion, [theta])))
        measured.append({spread.component: (spread.before, spread.after) for spread in found})
    assert measured[0] == {name: pytest.approx(both, abs=1e-12) for name, both in measured[1].items()}
    assert measured[0].keys() > {"rotation", "aspect"}


def test_a_control_at_the_identity_needs_a_network_that_starts_there() -> None:
    measure_model(model(localisation="parts:localise", pose="identity"), (28, 28))
    with pytest.raises(UserError, match="ThetaHead"):
        measure_model(model(localisation="parts:anywhere", pose="identity"), (28, 28))


@pytest.mark.parametrize(
    ("transformer", "told"),
    [
        ({"localisation": "nowhere:net"}, r"localisation nowhere:net: nowhere cannot be imported"),
        ({"localisation": "parts:lokalise"}, r"has no function lokalise; did you mean '[lL]ocalise'\?"),
        ({"localisation": "parts:short"}, r"affine has 6 parameters"),
        ({"localisation": "parts:failing"}, r"no such size \(parts\.py, line 24\)"),
        ({"localisation": "parts:without_size"}, "cannot be called with family, size and channels"),
        ({"localisation": "parts:nothing"}, "has to return an nn.Module"),
        ({"family": "parts:HALF"}, "its identity moves points"),
        ({"family": "parts:Crooked"}, "its grid is not where its points go"),
        ({"family": "parts:Broken"}, r"no attribute 'points'\) \(parts\.py, line 51\)"),
        ({"family": "parts:localise"}, "missing 3 required positional arguments"),
        ({"family": "parts:number"}, "has no function number"),
        ({"family": "builtins:dict"}, "it is a dict"),
    ],
)
def test_mistakes_in_parts_of_ones_own_are_told(transformer: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        measure_model(model(**transformer), (28, 28))


# --- padding, bounds, freezing ----------------------------------------------------------------------------------------


def test_padding_is_what_is_read_outside_the_image() -> None:
    images = torch.arange(1.0, 5.0).view(1, 1, 1, 4)
    grid = torch.tensor([-1.5, -1.125, 1.125, 1.5]).view(1, 1, 4, 1) * torch.tensor([1.0, 0.0])
    read = {padding: bilinear_sampler(images, grid, padding).flatten().tolist() for padding in ("zeros", "border")}
    assert read == {"zeros": [0, 0.25, 1, 0], "border": [1, 1, 4, 4]}
    assert bilinear_sampler(images, grid, "reflection").flatten().tolist() == pytest.approx([1.5, 1, 4, 3.5])


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_padding_changes_what_is_read_and_no_measure_of_where(padding: str) -> None:
    """Of a transformer at the input and of one between layers."""
    images, labels = torch.rand(4, 1, 28, 28) + 0.5, torch.tensor([0, 1, 2, 3])
    plain, padded = (built(spread=0.5, padding=kind, before=[0, 1]) for kind in ("zeros", padding))
    with torch.no_grad():
        assert torch.equal(plain(images), padded(images)) == (padding == "zeros")
    assert torch.equal(theta_of(plain, images), theta_of(padded, images))
    places = [diagnose(network, images, labels)[0].model_dump(exclude={"gradient"}) for network in (plain, padded)]
    assert places[0] == places[1]
    assert places[0]["outside"] > 0.02


@pytest.mark.parametrize("localisation", ["conv", "parts:localise"])
def test_bounds_keep_what_the_localisation_network_gives_near_the_identity(localisation: str) -> None:
    images = torch.rand(5, 1, 28, 28)
    for spread, most in ((100.0, 0.25), (1e-3, 1e-2)):
        free, bounded = (
            built(localisation=localisation, family="shear", spread=spread, bounds=bounds) for bounds in (None, 0.25)
        )
        theta, wanted = theta_of(bounded, images), 0.25 * torch.tanh(theta_of(free, images) / 0.25)
        torch.testing.assert_close(theta, torch.tensor(SHEAR.identity) + wanted)
        assert float(theta.abs().max()) <= most


def test_a_frozen_network_stays_as_it_is_in_whatever_mode() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 4))
    frozen, images = Frozen(layers), torch.rand(5, 1, 8, 8)
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    whole = nn.Sequential(frozen, nn.Linear(4, 2)).train()
    assert torch.equal(frozen(images), frozen(images))
    whole(images).sum().backward()
    assert all(parameter.grad is None for parameter in layers.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in frozen.state_dict().items())


@pytest.mark.parametrize(
    "transformer",
    [
        {"bounds": 0.0},
        {"padding": "wrap"},
        {"family": "similarity", "localisation": "equivariant", "bounds": 1.0},
        {"freeze": True},
        {"localisation_from": "checkpoint.pt", "pose": "identity"},
        {"localisation_from": "checkpoint.pt", "before": [0, 1]},
        {"family": "parts.STRETCH"},
        {"localisation": "parts:"},
    ],
)
def test_what_does_not_go_together_is_refused(transformer: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(reversed(transformer)) if "before" not in transformer else "one transf"):
        model(**transformer)

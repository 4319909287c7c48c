"""What transformers did: recorded as it was, and outlined where their output really read."""

import pytest
import torch
from torch import Tensor, nn

from stn_train.evaluation.classify import outputs_and_outlines, recorded_warps
from stn_train.geometry import AFFINE, FAMILIES, PROJECTIVE, TPS, Family
from stn_train.models.insert import insert_transformer
from stn_train.models.network import Network, build_model
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import ModelSpec

CPU = torch.device("cpu")


def network_of(canvas: tuple[int, int] = (28, 36), channels: int = 1, **transformer: object) -> Network:
    """An ST-FCN whose transformers have left the identity."""
    torch.manual_seed(0)
    spec = ModelSpec.model_validate({"name": "made", "base": "st_fcn", "transformer": transformer})
    network = build_model(spec, canvas, channels=channels)
    for module in network.modules():
        if isinstance(module, SpatialTransformer) and network.pose != "oracle":
            nn.init.normal_(module.localisation[-1].bias, std=0.05)
    return network


def random_images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Constant(nn.Module):
    """A localisation network that predicts this theta, 1 x p."""

    def __init__(self, theta: list[float]) -> None:
        super().__init__()
        self.theta = torch.tensor([theta])

    def forward(self, images: Tensor) -> Tensor:
        return self.theta


def outline(family: Family, theta: list[float], height: int, width: int) -> Tensor:
    transformer = SpatialTransformer(Constant(theta), family, (4, 4))
    ((_, found),) = outputs_and_outlines(transformer, torch.zeros(1, 1, height, width, dtype=torch.uint8), CPU)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("theta", "corners"),
    [
        ([1, 0, 0, 0, 1, 0], [(-0.5, -0.5), (41.5, -0.5), (41.5, 27.5), (-0.5, 27.5)]),
        ([0.5, 0, 0, 0, 0.5, 0], [(10, 6.5), (31, 6.5), (31, 20.5), (10, 20.5)]),
        ([0, -1, 0, 1, 0, 0], [(41.5, -0.5), (41.5, 27.5), (-0.5, 27.5), (-0.5, -0.5)]),
        ([1, 0, 1, 0, 1, -1], [(20.5, -14.5), (62.5, -14.5), (62.5, 13.5), (20.5, 13.5)]),
    ],
    ids=["identity", "half", "quarter turn", "right and up"],
)
def test_an_outlines_corners_are_where_the_outputs_corners_fall(theta, corners):
    """On an input 28 high and 42 wide; computed by hand."""
    points = outline(AFFINE, theta, 28, 42)
    torch.testing.assert_close(points[:: len(points) // 4], torch.tensor(corners))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_the_outline_of_the_identity_is_the_images_edge(family):
    x, y = outline(family, list(family.identity), 20, 30).T
    on_edge = (
        (x + 0.5).abs().lt(1e-4) | (x - 29.5).abs().lt(1e-4) | (y + 0.5).abs().lt(1e-4) | (y - 19.5).abs().lt(1e-4)
    )
    assert bool(on_edge.all())
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((-0.5, 29.5, -0.5, 19.5), abs=1e-4)


def test_a_side_is_straight_under_a_homography_and_bent_under_a_spline():
    def sagitta(points: Tensor) -> float:
        """How far the middle of the upper side lies off the line through its ends, in pixels."""
        (ax, ay), (mx, my), (bx, by) = points[0], points[8], points[16]
        return float(abs((bx - ax) * (my - ay) - (by - ay) * (mx - ax)) / torch.hypot(bx - ax, by - ay))

    bent = torch.tensor(TPS.identity)
    bent[3] += 0.3  # y of the second control point of the upper row
    assert sagitta(outline(PROJECTIVE, [1, 0.1, 0, 0.2, 1, 0, 0.2, 0.1], 28, 28)) == pytest.approx(0, abs=1e-4)
    assert sagitta(outline(TPS, bent.tolist(), 28, 28)) > 1


def test_what_is_recorded_is_what_was_done():
    network = network_of(before=[0, 0], parallel=2)
    images = torch.rand(3, 1, 28, 36)
    with recorded_warps(network) as warps:
        network(images)
    assert [warp.images.shape[1] for warp in warps] == [1, 1, 2, 2]
    assert [warp.transformer for warp in warps] == [m for m in network.modules() if isinstance(m, SpatialTransformer)]
    for warp in warps:
        output, theta = warp.transformer.warp(warp.images)
        assert torch.equal(warp.output, output)
        assert torch.equal(warp.theta, theta)
    warps.clear()
    network(images)
    assert not warps, "nothing is recorded outside"


@pytest.mark.parametrize("pose", ["predicted", "supervised", "oracle"])
def test_what_is_recorded_is_what_was_done_also_at_poses_that_are_given(pose):
    network, images = network_of(pose=pose), torch.rand(3, 1, 28, 36)
    poses = torch.tensor([[0.4, 0.1, 0.1, -0.1, 0.5, 0.05, 0.02, 0.01, 1.0]]).expand(3, -1)
    for _ in range(2):
        with recorded_warps(network) as warps:
            network.with_pose_loss(images, poses) if pose == "supervised" else network(images, poses)
        (warp,) = warps
        assert torch.equal(warp.images, images)
        assert torch.equal(warp.output, network.front(images, poses))
        assert torch.equal(warp.theta, poses if pose == "oracle" else network.transformer.localisation(images))


def test_outputs_are_what_the_classifier_is_given():
    images = random_images(5, 2, 28, 36)
    network = network_of(channels=2, parallel=2, output_size=[14, 20])
    seen = outputs_and_outlines(network.transformer, images, CPU)
    assert [output.shape for output, _ in seen] == [(5, 2, 14, 20)] * 2
    with torch.no_grad():
        given = torch.cat([output for output, _ in seen], dim=1)
        torch.testing.assert_close(network.classifier(given), network(images.float() / 255))


def test_only_those_that_read_the_image_itself_have_an_outline():
    seen = outputs_and_outlines(network_of(before=[0, 0]).transformer, random_images(2, 1, 28, 36), CPU)
    assert [outline is not None for _, outline in seen] == [True, False]


def test_no_transformer_at_the_input_has_no_output():
    spec = ModelSpec.model_validate({"name": "deep", "base": "st_cnn", "transformer": {"before": [1]}})
    assert build_model(spec, (28, 28)).transformer is None


def test_a_transformer_put_before_any_network_is_seen():
    network = insert_transformer(nn.Conv2d(3, 4, 3), image=(3, 20, 24))
    ((output, _),) = outputs_and_outlines(network.transformer, random_images(2, 3, 20, 24), CPU)
    torch.testing.assert_close(output, random_images(2, 3, 20, 24).float() / 255, rtol=0, atol=1e-5)

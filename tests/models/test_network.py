"""Controls: transformers that stay at the identity, are taught the pose, or are given it."""

import math

import pytest
import torch
from pydantic import ValidationError
from stn_train.models.oracle import SupervisedPose, lessons, tell
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stn_train.errors import UserError
from stn_train.geometry import AFFINE, HOMOGRAPHY, ROTATION, SIMILARITY, TPS
from stn_train.models import Model, build_model
from stn_train.models.transformer import ThetaHead
from stn_train.specs import ExperimentSpec, ModelSpec, trials_of

CANVAS = (42, 42)


def build(pose: str) -> Model:
    torch.manual_seed(0)
    spec = {"name": "made_up", "base": "st_cnn", "transformer": {"pose": pose, "output_size": 16}}
    return build_model(ModelSpec.model_validate(spec), CANVAS, 100_000)


def images() -> torch.Tensor:
    return torch.rand(4, 1, *CANVAS, generator=torch.Generator().manual_seed(0))


def test_controls_have_the_models_own_classifier():
    predicted, identity, taught, true = (build(pose) for pose in ("predicted", "identity", "supervised", "oracle"))
    assert predicted.width == identity.width == taught.width == true.width
    assert predicted.parameters == identity.parameters == taught.parameters > true.parameters
    assert predicted.macs == identity.macs == taught.macs > true.macs
    for mine, theirs in zip(true.network[1].parameters(), predicted.network[1].parameters(), strict=True):
        assert mine.shape == theirs.shape


def test_frozen_it_stays_at_the_identity_whatever_it_learns():
    network = build("identity")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    before = network[0](images())
    network(images()).square().sum().backward()
    optimizer.step()
    assert torch.equal(network[0](images()), before)
    assert not torch.equal(network(images()), build("identity")(images()))


def test_told_the_pose_it_samples_there_for_each_image():
    network = build("oracle")
    zoomed = torch.tensor([[0.5, 0, 0, 0, 0.5, 0, 0, 0, 1]])
    whole = torch.tensor([[1.0, 0, 0, 0, 1.0, 0, 0, 0, 1]])
    tell(network, torch.cat([zoomed, whole, whole, zoomed]))
    both = network[0](images())
    tell(network, zoomed)
    zoomed_all = network[0](images())
    tell(network, whole)
    assert torch.equal(both[[0, 3]], zoomed_all[[0, 3]])
    assert torch.equal(both[[1, 2]], network[0](images())[[1, 2]])
    tell(network, torch.cat([whole] * 3))
    with pytest.raises(UserError, match="4 x 1 x 42 x 42"):
        network[0](images())


SHIFTED = torch.tensor([[1.0, 0, 0.5, 0, 1, 0, 0, 0, 1]])


def test_who_is_taught_learns_from_the_pose_alone():
    network = build("supervised")
    tell(network, SHIFTED.expand(4, -1))
    network(images()).square().sum().backward()
    localisation = network[0].localisation
    assert all(parameter.grad is None for parameter in localisation.parameters())
    assert any(parameter.grad is not None for parameter in network[1].parameters())
    (lesson,) = lessons(network)
    assert lesson.item() == pytest.approx(0.5), "at the identity all points are half of the image's half away"
    lesson.backward()
    assert all(parameter.grad is not None for parameter in localisation.parameters())
    assert lessons(network) == [], "each is handed out once"


def test_who_has_learnt_the_pose_misses_nothing():
    network = build("supervised")
    last = [*network[0].localisation.modules()][-1]
    with torch.no_grad():
        last.bias[2] = 0.5
    tell(network, SHIFTED.expand(4, -1))
    assert torch.equal(network[0](images()), network[0].eval()(images())), "the theta that it predicts is used in both"
    assert [lesson.item() for lesson in lessons(network)] == [pytest.approx(0, abs=1e-12)]


def test_of_two_poses_that_look_alike_the_likelier_is_learnt_not_their_mean():
    network = build("supervised")
    right, left = (torch.tensor([[0, -turn, 0, turn, 0, 0, 0, 0, 1.0]]) for turn in (1.0, -1.0))
    tell(network, torch.cat([right, right, right, left, left]))
    alike = torch.ones(5, 1, *CANVAS)
    optimizer = torch.optim.Adam([[*network[0].localisation.modules()][-1].bias], lr=0.03)
    for _ in range(200):
        network[0](alike)
        optimizer.zero_grad()
        sum(lessons(network)).backward()
        optimizer.step()
    assert network[0].localisation(alike)[0].tolist() == pytest.approx(right[0, :6].tolist(), abs=0.05)


@pytest.mark.parametrize("family", [SIMILARITY, TPS], ids=lambda family: family.name)
def test_a_pose_that_the_family_can_have_is_missed_by_nothing_on_any_canvas_and_in_any_precision(family):
    """A digit that is turned by 90 degrees on a canvas twice as wide as high."""
    aspect, quarter = 2.0, math.pi / 2
    pose = HOMOGRAPHY.theta_of(ROTATION.matrix(torch.tensor([[quarter]]), aspect))
    theta = {
        "similarity": torch.tensor([[0.0, 1.0, 0.0, 0.0]]),
        "tps": HOMOGRAPHY.points(pose, TPS.points_of(torch.tensor([TPS.identity]))[0], aspect).flatten(1),
    }[family.name]
    known = nn.Sequential(nn.Flatten(), ThetaHead(2 * 8 * 16, family))
    with torch.no_grad():
        known[1].bias.copy_(theta[0] - torch.tensor(family.identity))
    taught = SupervisedPose(known, family)
    tell(taught, pose)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            taught(torch.rand(1, 2, 8, 16))
        (lesson,) = lessons(taught)
        assert lesson.dtype == torch.float32
        assert lesson.item() == pytest.approx(0, abs=1e-5)


def test_poses_are_brought_to_where_the_images_are():
    with FakeTensorMode(allow_non_fake_inputs=True):
        taught = SupervisedPose(Nowhere(), AFFINE)
        tell(taught, SHIFTED.expand(4, -1))
        taught(torch.zeros(4, 1, 8, 8, device="cuda"))
        (lesson,) = lessons(taught)
        assert lesson.device.type == "cuda"


class Nowhere(nn.Module):
    """A localisation network that says the same of every image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), 6, device=images.device)


def test_in_evaluation_nobody_is_taught():
    network = build("supervised").eval()
    tell(network, SHIFTED.expand(4, -1))
    network(images())
    assert lessons(network) == []
    assert isinstance(network[0].localisation, SupervisedPose)


def test_who_predicts_is_not_told():
    network = build("predicted").eval()
    before = network(images())
    tell(network, torch.rand(4, 9))
    assert torch.equal(network(images()), before)


def experiment(**keys: object) -> ExperimentSpec:
    return ExperimentSpec.model_validate(
        {"name": "x", "datasets": ["r"], "models": ["cnn", "st_cnn"], "controls": True, "training": {}, **keys}
    )


def test_controls_stand_behind_their_models_once():
    names = ["cnn", "st_cnn", "st_cnn-identity", "st_cnn-supervised", "st_cnn-oracle"]
    found = experiment()
    assert [model.name for model in found.models] == names
    assert ExperimentSpec.model_validate(found.model_dump()) == found, "a run's own configuration adds none"
    assert [model.name for model in experiment(controls=False).models] == ["cnn", "st_cnn"]
    few = experiment(models=[model for model in found.models if not model.name.endswith("supervised")])
    assert [model.name for model in few.models] == ["cnn", "st_cnn", "st_cnn-identity", "st_cnn-oracle"], (
        "of an older run"
    )


def test_only_a_single_transformer_at_the_input_has_controls():
    deep, two = ({"name": "x", "base": "st_cnn", "transformer": keys} for keys in ({"before": [2]}, {"parallel": 2}))
    for model in (deep, two):
        assert len(experiment(models=[model]).models) == 1
        with pytest.raises(ValidationError, match="pose oracle is for one transformer at the input"):
            ModelSpec.model_validate({**model, "transformer": {**model["transformer"], "pose": "oracle"}})


def test_without_a_true_pose_none_is_given():
    keys = [trial.key for trial in trials_of(experiment(datasets=["e", "p", "addition"]))]
    for told in ("supervised", "oracle"):
        assert [key.split("/")[0] for key in keys if f"st_cnn-{told}" in key] == ["p"]
    assert sum("st_cnn-identity" in key for key in keys) == 3

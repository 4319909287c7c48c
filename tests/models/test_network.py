"""A network's poses: predicted, kept at the identity, learnt from true ones or given; and how precisely it computes."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stn_train.errors import UserError
from stn_train.geometry import AFFINE, HOMOGRAPHY, ROTATION, SIMILARITY, TPS, Family
from stn_train.models.network import Network, build_model, measure_model, precision_on
from stn_train.models.transformer import SpatialTransformer, ThetaHead
from stn_train.specs import RECIPES, ExperimentSpec, ModelSpec, TrainingSpec, trials_of

CPU = torch.device("cpu")
CANVAS = (42, 42)
POSES = ("predicted", "identity", "supervised", "oracle")


def spec_of(pose: str) -> ModelSpec:
    spec = {"name": "made_up", "base": "st_cnn", "transformer": {"pose": pose, "output_size": 16}}
    return ModelSpec.model_validate(spec)


def build(pose: str) -> Network:
    torch.manual_seed(0)
    return build_model(spec_of(pose), CANVAS, 100_000)


def images() -> Tensor:
    return torch.rand(4, 1, *CANVAS, generator=torch.Generator().manual_seed(0))


def test_controls_have_the_models_own_classifier():
    predicted, identity, supervised, oracle = (measure_model(spec_of(pose), CANVAS, 100_000) for pose in POSES)
    assert predicted.width == identity.width == supervised.width == oracle.width
    assert predicted.parameters == identity.parameters == supervised.parameters > oracle.parameters
    assert predicted.macs == identity.macs == supervised.macs > oracle.macs
    own = build("predicted").classifier
    for pose in POSES[1:]:
        for mine, theirs in zip(build(pose).classifier.parameters(), own.parameters(), strict=True):
            assert mine.shape == theirs.shape


@pytest.mark.parametrize("pose", POSES)
def test_the_classifier_reads_what_stands_at_the_front(pose):
    network, poses = build(pose).eval(), SHIFTED.expand(4, -1)
    assert network.front(images(), poses).shape == (4, 1, 16, 16)
    assert torch.equal(network(images(), poses), network.classifier(network.front(images(), poses)))


def test_without_a_transformer_the_classifier_reads_the_images():
    network = build_model(ModelSpec.model_validate("cnn"), CANVAS).eval()
    assert network.transformer is None
    assert torch.equal(network.front(images(), SHIFTED.expand(4, -1)), images())
    assert torch.equal(network(images()), network.classifier(images()))


def test_a_frozen_transformer_stays_at_the_identity_whatever_the_network_learns():
    network = build("identity")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    before = network.front(images())
    network(images()).square().sum().backward()
    optimizer.step()
    assert torch.equal(network.front(images()), before)
    assert not torch.equal(network(images()), build("identity")(images()))


# --- given poses ------------------------------------------------------------------------------------------------------


def test_an_oracle_samples_at_the_pose_that_is_given_for_each_image():
    network = build("oracle")
    zoomed = torch.tensor([[0.5, 0, 0, 0, 0.5, 0, 0, 0, 1]])
    whole = torch.tensor([[1.0, 0, 0, 0, 1.0, 0, 0, 0, 1]])
    both = network.front(images(), torch.cat([zoomed, whole, whole, zoomed]))
    zoomed_all, whole_all = (network.front(images(), pose.expand(4, -1)) for pose in (zoomed, whole))
    assert torch.equal(both[[0, 3]], zoomed_all[[0, 3]])
    assert torch.equal(both[[1, 2]], whole_all[[1, 2]])
    assert not torch.equal(zoomed_all, whole_all)
    assert torch.equal(network.front(images()), whole_all), "without poses it stays at the identity"
    with pytest.raises(UserError, match="4 x 1 x 42 x 42"):
        network.front(images(), torch.cat([whole] * 3))


@pytest.mark.parametrize("pose", ["predicted", "identity", "supervised"])
def test_no_other_network_makes_use_of_the_pose_when_it_answers(pose):
    network = build(pose).eval()
    assert torch.equal(network(images(), torch.rand(4, 9)), network(images()))


# --- supervised poses -------------------------------------------------------------------------------------------------

SHIFTED = torch.tensor([[1.0, 0, 0.5, 0, 1, 0, 0, 0, 1]])


def supervised(localisation: nn.Module, family: Family) -> Network:
    """A network whose classifier is of no account."""
    return Network(SpatialTransformer(localisation, family, (4, 4)), nn.Flatten(), "supervised")


def test_a_supervised_localisation_network_learns_from_the_pose_alone():
    network = build("supervised")
    logits, loss = network.with_pose_loss(images(), SHIFTED.expand(4, -1))
    logits.square().sum().backward()
    localisation = network.transformer.localisation
    assert all(parameter.grad is None for parameter in localisation.parameters())
    assert any(parameter.grad is not None for parameter in network.classifier.parameters())
    assert loss.item() == pytest.approx(0.5), "at the identity all points are half of the image's half away"
    network.zero_grad()
    loss.backward()
    assert all(parameter.grad is not None for parameter in localisation.parameters())
    assert all(parameter.grad is None for parameter in network.classifier.parameters())


def test_who_has_learnt_the_pose_misses_nothing():
    network = build("supervised")
    last = [*network.transformer.localisation.modules()][-1]
    with torch.no_grad():
        last.bias[2] = 0.5
    network.eval()
    logits, loss = network.with_pose_loss(images(), SHIFTED.expand(4, -1))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert torch.equal(logits, network(images())), "the theta that it predicts is used in both"


def test_of_two_likely_poses_one_is_learnt_not_their_mean():
    network = build("supervised")
    right, left = (torch.tensor([[0, -turn, 0, turn, 0, 0, 0, 0, 1.0]]) for turn in (1.0, -1.0))
    poses, alike = torch.cat([right, right, right, left, left]), torch.ones(5, 1, *CANVAS)
    optimizer = torch.optim.Adam([[*network.transformer.localisation.modules()][-1].bias], lr=0.03)
    for _ in range(200):
        _, loss = network.with_pose_loss(alike, poses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = network.transformer.localisation(alike)[0].tolist()
    assert found == pytest.approx(right[0, :6].tolist(), abs=0.05), "the likelier"


@pytest.mark.parametrize("family", [SIMILARITY, TPS], ids=lambda family: family.name)
def test_a_pose_that_the_family_can_have_is_missed_by_nothing_on_any_canvas_and_in_any_precision(family):
    """A digit that is turned by 90 degrees on a canvas twice as wide as high."""
    aspect, quarter = 2.0, math.pi / 2
    pose = ROTATION.matrix(torch.tensor([[quarter]]), aspect).flatten(1)
    theta = {
        "similarity": torch.tensor([[0.0, 1.0, 0.0, 0.0]]),
        "tps": HOMOGRAPHY.points(pose, TPS.points_of(torch.tensor([TPS.identity]))[0], aspect).flatten(1),
    }[family.name]
    known = nn.Sequential(nn.Flatten(), ThetaHead(2 * 8 * 16, family))
    with torch.no_grad():
        known[1].bias.copy_(theta[0] - torch.tensor(family.identity))
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            _, loss = supervised(known, family).with_pose_loss(torch.rand(1, 2, 8, 16), pose)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(0, abs=1e-5)


class Nowhere(nn.Module):
    """A localisation network that says the same of every image."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 6, device=images.device)


def test_poses_are_brought_to_where_the_images_are():
    poses = SHIFTED.expand(4, -1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = torch.zeros(4, 1, 8, 8, device="cuda")
        _, loss = supervised(Nowhere(), AFFINE).with_pose_loss(there, poses)
        given = Network(SpatialTransformer(Nowhere(), AFFINE, (4, 4)), nn.Flatten(), "oracle").front(there, poses)
        assert loss.device.type == given.device.type == "cuda"


# --- which models have controls ---------------------------------------------------------------------------------------


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
    for pose in ("supervised", "oracle"):
        assert [key.split("/")[0] for key in keys if f"st_cnn-{pose}" in key] == ["p"]
    assert sum("st_cnn-identity" in key for key in keys) == 3


# --- precision --------------------------------------------------------------------------------------------------------


def test_precision_is_float32_where_the_recipe_says_so():
    recipe = TrainingSpec.model_validate({**RECIPES["default"], "precision": "float32"})
    assert precision_on(CPU, recipe) == "float32"

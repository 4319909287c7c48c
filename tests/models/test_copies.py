"""Copies of networks, in this process, through a file and in another process: they answer as the network did."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, multiprocessing, nn

from stn_train.geometry import FAMILIES, thin_plate_spline
from stn_train.models.insert import insert_transformer
from stn_train.models.localisation import LOCALISATIONS
from stn_train.models.network import build_model
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import ModelSpec

EVERY = {**FAMILIES, "tps_5": thin_plate_spline(5)}
IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def of_family(name: str) -> nn.Module:
    """A transformer of a family, away from the identity."""
    torch.manual_seed(0)
    transformer = SpatialTransformer(LOCALISATIONS["keypoints"](EVERY[name], (28, 28), 1), EVERY[name], (20, 24))
    nn.init.normal_(transformer.localisation[-1].weight, std=0.05)
    return transformer.eval()


def of_pose(pose: str) -> nn.Module:
    spec = {"name": "made_up", "base": "st_cnn_tps", "transformer": {"pose": pose}}
    return build_model(ModelSpec.model_validate(spec), (28, 28)).eval()


def inserted() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    return insert_transformer(insert_transformer(model, before="2", image=(1, 28, 28)), image=(1, 28, 28))


MADE: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: of_family(name) for name in EVERY},
    **{pose: lambda pose=pose: of_pose(pose) for pose in ("predicted", "identity", "supervised", "oracle")},
    "inserted": inserted,
}


def through_a_file(network: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made)), through_a_file])
def test_a_copy_answers_as_the_network_does(name, copied):
    network = MADE[name]()
    other = copied(network)
    assert torch.equal(other(IMAGES), network(IMAGES))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())
    assert torch.equal(through_a_file(other.double())(IMAGES.double()), network.double()(IMAGES.double()))


def answer(networks: dict[str, nn.Module], images: Tensor, answers: "multiprocessing.Queue[bytes]") -> None:
    """What another process runs."""
    answers.put(pickle.dumps({name: network(images).detach().numpy() for name, network in networks.items()}))


def test_networks_can_be_handed_to_a_process_that_is_spawned():
    context = multiprocessing.get_context("spawn")
    networks, answers = {name: make() for name, make in MADE.items()}, context.Queue()
    process = context.Process(target=answer, args=(networks, IMAGES, answers))
    process.start()
    found = pickle.loads(answers.get(timeout=120))
    process.join()
    for name, network in networks.items():
        torch.testing.assert_close(torch.from_numpy(found[name]), network(IMAGES).detach(), msg=name)

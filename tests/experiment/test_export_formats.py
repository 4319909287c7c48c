"""Exported files: of every family, localisation network and classifier they compute what the network does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stn_train.errors import UserError
from stn_train.experiment.export import FORMATS, export
from stn_train.experiment.load import Trained
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.trial import network_of
from stn_train.models.transformer import ThetaHead
from stn_train.specs import CLASSIFIERS, PARTS, DatasetSpec, ExperimentSpec, trials_of

NETS = """
import torch
from torch import nn
from stn_train import Family, ThetaHead

class Net(nn.Sequential):
    def __init__(self, size, channels, classes):
        super().__init__(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
                         nn.Dropout(), nn.Linear(64, classes))

class Branching(Net):
    def forward(self, images):
        return super().forward(images if images.sum() > 0 else -images)

def localise(family, size, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], 8), nn.ReLU(), ThetaHead(8, family))

class Swirl(Family):
    def __init__(self):
        super().__init__("swirl", (0.0,))

    def points(self, theta, target, aspect=1.0):
        x, y = target.unbind(-1)
        angle = theta * (1 - target.square().sum(dim=-1)).clamp(min=0)
        return torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], dim=-1)
"""
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("safetensors")

EVERY = [
    *({"base": "st_cnn", "transformer": {"family": family}} for family in PARTS["family"]),
    *({"base": "st_cnn_similarity", "transformer": {"localisation": name}} for name in PARTS["localisation"]),
    *({"base": f"st_{name}_tps"} for name in ("cnn", "cnn_paper", "fcn")),
    *({"base": name} for name in CLASSIFIERS),
    {"base": "st_cnn_equivariant", "transformer": {"coordinates": "canonical"}},
    {"classifier": "ti_pooling", "transformer": {}},
    {"base": "st_cnn_tps", "transformer": {"control_points": 3, "before": [0, 0, 1, 2], "padding": "reflection"}},
    {"base": "st_cnn", "transformer": {"parallel": 2, "supersampling": 2, "bounds": 0.5, "padding": "border"}},
    {"base": "st_cnn", "transformer": {"pose": "supervised", "coordinates": True}},
    {
        "classifier": "exported_parts:Net",
        "transformer": {"family": "exported_parts:Swirl", "localisation": "exported_parts:localise"},
    },
]


def trained(model: dict[str, object], dataset: str | dict[str, object] = "rts") -> Trained:
    """A network that is not trained, but moved away from the identity."""
    spec = ExperimentSpec.model_validate(
        {
            "name": "made_up",
            "source": "digits",
            "datasets": [dataset],
            "models": [{"name": "made_up", **model}],
            "training": {},
        }
    )
    (trial,) = trials_of(spec)
    network = network_of(trial, Runtime(torch.device("cpu")))
    for module in network.modules():
        if isinstance(module, ThetaHead):
            nn.init.normal_(module.weight, std=0.02)
    return Trained(Path("checkpoint.pt"), trial, network.eval(), 1)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exported_parts.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("model", EVERY, ids=str)
@pytest.mark.slow
def test_every_network_is_exported_to_onnx_and_computes_the_same(tmp_path: Path, model: dict[str, object]) -> None:
    exported = export(trained(model), tmp_path / "it.onnx")
    assert exported.difference < 1e-4
    assert exported.images > 60


@pytest.mark.parametrize("model", EVERY[8:14], ids=str)
@pytest.mark.parametrize("ending", [ending for ending in FORMATS if ending != ".onnx"])
@pytest.mark.slow
def test_what_torch_reads_again_computes_exactly_the_same(
    tmp_path: Path, ending: str, model: dict[str, object]
) -> None:
    assert export(trained(model), tmp_path / f"it{ending}").difference < 1e-6


def test_an_onnx_file_takes_any_number_of_images_and_says_what_it_is(tmp_path: Path) -> None:
    """Of images with two channels and of other sides, by several transformers."""
    dataset = {"name": "two", "base": "addition", "canvas": [40, 32]}
    one = trained({"base": "st_cnn_tps", "transformer": {"before": [0, 0], "output_size": [20, 24]}}, dataset)
    exported = export(one, tmp_path / "it.onnx")
    session = onnxruntime.InferenceSession(exported.path)
    wanted = {"images": (2, 40, 32), "logits": (19,), "theta": (32,), "theta_1": (32,)}
    wanted |= {"warped": (2, 20, 24), "warped_1": (2, 20, 24)}
    assert {name: shape[1:] for name, shape in exported.shapes.items()} == wanted
    for count in (1, 5, 130):
        found = session.run(None, {"images": np.random.rand(count, 2, 40, 32).astype(np.float32)})
        assert [each.shape for each in found] == [(count, *shape) for shape in list(wanted.values())[1:]]
    said = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert said["classes"] == [str(number) for number in range(19)]
    assert said["shapes"]["images"] == ["N", 2, 40, 32]
    assert said["preparation"]["range"] == [0, 1]
    assert said["versions"]["torch"] == torch.__version__
    assert DatasetSpec.model_validate(said["trial"]["dataset"]).canvas == (40, 32)


@pytest.mark.usefixtures("parts")
def test_what_cannot_be_exported_is_told_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "it.pt2"
    with pytest.raises(
        UserError, match=r"cannot be exported to \.pt2: .*data-dependent.*\(exported_parts\.py, line 13\)"
    ):
        export(trained({"classifier": "exported_parts:Branching"}), path)
    with pytest.raises(UserError, match="true pose"):
        export(trained({"base": "st_cnn", "transformer": {"pose": "oracle"}}), path)
    assert list(tmp_path.glob("it*")) == []


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trained({"base": "st_cnn"})
    other = trained({"base": "st_cnn"}).network
    other.load_state_dict = lambda state: None  # type: ignore[method-assign, assignment]
    monkeypatch.setattr("stn_train.experiment.export.network_of", lambda trial, runtime: other)
    for parameter in one.network.classifier.parameters():
        nn.init.normal_(parameter)
    with pytest.raises(ValueError, match="logits"):
        export(one, tmp_path / "it.safetensors")
    assert not (tmp_path / "it.safetensors").exists()

"""Classifiers of the user's own: found beside the configuration, fitted where they can be, mistakes told."""

import sys
from pathlib import Path

import pytest
import torch

from stn_train.errors import UserError
from stn_train.models.network import build_model, measure_model
from stn_train.models.transformer import SpatialTransformer
from stn_train.specs import ModelSpec

NETS = """
import sys; from torch import nn

class Wide(nn.Module):
    def __init__(self, size, channels, classes, width=6.0):
        super().__init__()
        w = round(width)
        self.features = nn.Conv2d(channels, w, 3, padding=1)
        self.more = nn.Sequential(nn.ReLU(), nn.Conv2d(w, 2 * w, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.last = nn.Linear(8 * w, classes)

    def forward(self, images):
        return self.last(self.more(self.features(images)).flatten(1))

def fixed(size, channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))

def needs_width(size, channels, classes, width):
    return Wide(size, channels, classes, width)

def unrounded(size, channels, classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], width), nn.Linear(width, classes))

def deep(size, channels, classes, depth):
    return fixed(size, channels, classes)

def nothing(size, channels, classes):
    return None

def eleven(size, channels, classes):
    return fixed(size, channels, 11)

def small(size, channels, classes):
    raise ValueError("needs 64 pixels")

def strict(size, channels, classes):
    assert size == (7, 7)

class Unpacking(nn.Module):
    def __init__(self, size, channels, classes):
        super().__init__()

    def forward(self, images):
        rows, columns = images.shape

class Infinite(nn.Linear):
    def __init__(self, size, channels, classes):
        super().__init__(channels * size[0] * size[1], classes)
        self.mask = nn.Parameter(-self.bias.detach() / 0, requires_grad=False)

    def forward(self, images):
        return super().forward(images.flatten(1))

class Empty(nn.Module):
    def __init__(self, size, channels, classes):
        super().__init__()
        self.classes = classes

    def forward(self, images):
        return images.flatten(1)[:, : self.classes]

class Detached(nn.Linear):
    def __init__(self, size, channels, classes):
        super().__init__(channels * size[0] * size[1], classes)

    def forward(self, images):
        return super().forward(images.flatten(1)).detach()

class Integer(Detached):
    def forward(self, images):
        return super().forward(images).long()

class Pair(Detached):
    def forward(self, images):
        return super().forward(images), images

class PairInTraining(Detached):
    def forward(self, images):
        logits = nn.Linear.forward(self, images.flatten(1))
        return (logits, images) if self.training else logits

class OneByOne(Detached):
    def forward(self, images):
        logits = nn.Linear.forward(self, images.flatten(1))
        return logits.view(1, -1) if self.training else logits

class Leaves(Detached):
    def forward(self, images):
        sys.exit(3)

class LeavesInTraining(Detached):
    def forward(self, images):
        if self.training:
            exit("no GPU")
        return nn.Linear.forward(self, images.flatten(1))

def leaves(size, channels, classes):
    raise SystemExit

class Interrupted(Detached):
    def forward(self, images):
        raise KeyboardInterrupt

class Dropping(nn.Sequential):
    def __init__(self, size, channels, classes):
        inputs = channels * size[0] * size[1]
        super().__init__(nn.Flatten(), nn.BatchNorm1d(inputs), nn.Dropout(), nn.Linear(inputs, classes))

number = 3
"""


@pytest.fixture(autouse=True)
def beside(tmp_path, monkeypatch):
    """The current directory holds a module `nets`."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "broken.py").write_text("import torch\nnn.Linear\n")
    (tmp_path / "leaving").mkdir()
    (tmp_path / "leaving/__init__.py").write_text("import sys\n\nsys.exit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("nets", "broken", "leaving"):
        sys.modules.pop(name, None)


def spec_of(function: str, **transformer: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": "mine", "classifier": function, "transformer": transformer or None})


@pytest.mark.parametrize(
    "transformer", [{}, {"before": [0]}, {"before": [1]}, {"before": [0, 1, 1]}, {"parallel": 2}], ids=str
)
def test_one_that_takes_a_width_is_fitted_to_the_budget_with_its_transformers(transformer):
    network = build_model(spec_of("nets:Wide", **transformer), (28, 24), 100_000, channels=2, classes=7)
    assert abs(sum(parameter.numel() for parameter in network.parameters()) - 100_000) <= 2000
    assert network(torch.zeros(2, 2, 28, 24)).shape == (2, 7)
    found = sum(isinstance(module, SpatialTransformer) for module in network.modules())
    assert found == (len(transformer.get("before", [0])) * transformer.get("parallel", 1) if transformer else 0)


def test_layers_are_its_named_children_in_order():
    network = build_model(spec_of("nets:Wide", before=[1]), (28, 24))
    assert isinstance(network.classifier.more.transformer, SpatialTransformer)


def test_without_a_budget_it_has_its_own_width():
    assert measure_model(spec_of("nets:Wide"), (28, 28)).width == 6.0
    assert measure_model(spec_of("nets:unrounded"), (28, 28)).width == 4
    assert measure_model(spec_of("nets:fixed"), (28, 28)).width is None
    assert measure_model(spec_of("nets:needs_width"), (28, 28), 50_000).parameters == pytest.approx(50_000, rel=0.02)


def test_one_without_a_width_has_to_meet_the_budget_itself():
    assert measure_model(spec_of("nets:fixed"), (28, 28), 7_900).parameters == 7_850
    with pytest.raises(UserError, match=r"mine cannot have 9,000 .* takes no width, and so it has 7,850"):
        build_model(spec_of("nets:fixed"), (28, 28), 9_000)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("nowhere.nets:Wide", r"classifier nowhere\.nets:Wide: nowhere\.nets cannot be imported \(ModuleNotFoundError"),
        ("broken:Wide", r"broken cannot be imported \(NameError: name 'nn' is not defined\) \(broken.py, line 2\); it"),
        ("leaving:Wide", r"leaving cannot be imported \(SystemExit: 3\) \(__init__.py, line 3\); it has to be"),
        ("nets:leaves", r"mine cannot be built .*: SystemExit: SystemExit \(nets.py, line 98\)$"),
        ("nets:Leaves", r"mine cannot be built .*: SystemExit: 3 \(nets.py, line 89\)$"),
        ("nets:LeavesInTraining", r"mine cannot be built .*: SystemExit: no GPU \(nets.py, line 94\)$"),
        ("nets:Empty", "mine cannot be built .*: its logits depend on no parameter that can be trained"),
        ("nets:Detached", "mine cannot be built .*: its logits depend on no parameter that can be trained"),
        ("nets:Integer", "its classifier puts out logits of torch.int64; expected floating-point numbers"),
        ("nets:Pair", "its classifier puts out a tuple for 2 images; expected 2 x 10"),
        ("nets:PairInTraining", "its classifier puts out a tuple for 2 images; expected 2 x 10"),
        ("nets:OneByOne", "its classifier puts out 1 x 20 for 2 images; expected 2 x 10"),
        ("nets:Wider", r"nets has no function Wider; did you mean 'Wide'\?"),
        ("nets:number", "nets has no function number"),
        ("nets:deep", "cannot be called with size, channels, classes .* missing a required argument: 'depth'"),
        ("nets:nothing", "has to return an nn.Module, and returned a NoneType"),
        ("nets:eleven", "its classifier puts out 2 x 11 for 2 images; expected 2 x 10"),
        ("nets:needs_width", "no default for width"),
        ("nets:small", "model mine cannot be built for images of 28 x 28 pixels: ValueError: needs 64 pixels"),
        ("nets:strict", "model mine cannot be built for images of 28 x 28 pixels: AssertionError"),
        (
            "nets:Unpacking",
            r"model mine cannot be built .* ValueError: too many values to unpack .* \(nets.py, line 44\)",
        ),
        (
            "nets:Infinite",
            "classifier.mask holds numbers that are not finite; a mask of such numbers has to be a buffer",
        ),
        ("torch:relu", "classifier torch:relu cannot be called with size, channels, classes .* no signature found"),
    ],
)
def test_mistakes_are_told_in_a_sentence(function, sentence):
    with pytest.raises(UserError, match=sentence) as told:
        build_model(spec_of(function), (28, 28))
    assert "\n" not in str(told.value)


def test_ctrl_c_in_a_classifier_is_no_mistake_of_its():
    with pytest.raises(KeyboardInterrupt):
        build_model(spec_of("nets:Interrupted"), (28, 28))


@pytest.mark.parametrize("pose", ["identity", "oracle"])
def test_behind_a_transformer_that_learns_one_without_parameters_is_trained_and_behind_another_it_is_not(pose):
    build_model(spec_of("nets:Empty", before=[0]), (28, 28))
    with pytest.raises(UserError, match="depend on no parameter that can be trained"):
        build_model(spec_of("nets:Empty", pose=pose), (28, 28))


def test_trying_a_step_changes_nothing():
    torch.manual_seed(0)
    classifier = build_model(spec_of("nets:Dropping"), (28, 24)).classifier
    after = torch.rand(1)
    torch.manual_seed(0)
    as_made = sys.modules["nets"].Dropping((28, 24), 1, 10)
    assert torch.equal(torch.rand(1), after), "nothing else was drawn"
    assert all(torch.equal(value, as_made.state_dict()[name]) for name, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_a_width_that_is_not_rounded_is_told():
    with pytest.raises(UserError, match=r"nets:unrounded fails for width=2500\.5 .* multiply it, then round"):
        build_model(spec_of("nets:unrounded"), (28, 28), 50_000)


def test_the_current_directory_is_looked_in_once(tmp_path):
    for _ in range(2):
        build_model(spec_of("nets:fixed"), (28, 28))
    assert sys.path.count(str(Path.cwd())) == 1

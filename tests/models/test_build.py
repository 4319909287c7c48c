"""Building: budgets kept, sizes told truly, and sentences where a model cannot be had."""

import pytest
import torch

from stn_train.errors import UserError
from stn_train.models import build_model
from stn_train.models.precision import autocast, precision_on
from stn_train.specs import MODELS, RECIPES, ModelSpec, TrainingSpec

CPU = torch.device("cpu")


def spec_of(name: str) -> ModelSpec:
    return ModelSpec.model_validate(name)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("canvas", [(28, 28), (42, 42), (60, 60)], ids=str)
def test_every_model_keeps_within_two_per_cent_of_the_budget(name, canvas):
    model = build_model(spec_of(name), canvas, 400_000)
    assert abs(model.parameters - 400_000) <= 0.02 * 400_000
    assert model.parameters == sum(parameter.numel() for parameter in model.network.parameters())
    assert model.network(torch.zeros(2, 1, *canvas)).shape == (2, 10)


def test_a_larger_budget_gives_a_wider_model():
    widths = [build_model(spec_of("cnn"), (28, 28), budget).width for budget in (100_000, 400_000, 1_600_000)]
    assert widths == sorted(set(widths))


@pytest.mark.parametrize("name", MODELS)
def test_other_channels_and_classes_can_be_had(name):
    model = build_model(spec_of(name), (40, 32), channels=3, classes=7)
    assert model.network(torch.zeros(2, 3, 40, 32)).shape == (2, 7)
    assert model.parameters == sum(parameter.numel() for parameter in model.network.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_a_transformer_where_its_specification_has_one(name):
    spec = spec_of(name)
    model = build_model(spec, (42, 36))
    assert (model.transformer is None) == (spec.transformer is None)
    if model.transformer is not None and spec.transformer is not None:
        assert model.network[0] is model.transformer
        assert model.transformer(torch.zeros(1, 1, 42, 36)).shape == (1, 1, *spec.transformer.output)


def test_a_model_is_ready_to_be_trained():
    assert all(module.training for module in build_model(spec_of("st_cnn"), (28, 28)).network.modules())


def test_multiply_adds_are_those_counted_by_hand():
    model = build_model(spec_of("cnn_paper"), (28, 28))
    w = round(model.width)
    first = 20 * 20 * w * 9 * 9  # 28 - 8 positions each way
    second = 4 * 4 * w * w * 7 * 7  # 20 / 2 - 6
    last = 2 * 2 * w * 10
    assert model.multiply_adds == first + second + last


def test_the_same_seed_builds_the_same_weights_and_another_seed_others():
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(torch.cat([p.flatten() for p in build_model(spec_of("st_cnn"), (42, 42)).network.parameters()]))
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])


@pytest.mark.parametrize(("name", "budget"), [("st_cnn", 1_000), ("cnn", 1_000), ("cnn_paper", 1_000)])
def test_a_budget_that_no_width_meets_is_refused_in_a_sentence(name, budget):
    with pytest.raises(UserError, match=rf"model {name} cannot have 1,000 parameters within 2 %: the nearest"):
        build_model(spec_of(name), (42, 42), budget)


def refusal(name: str, canvas: tuple[int, int], budget: int | None) -> str | None:
    """What is said of a canvas that is too small; None where the model can be built and used."""
    try:
        model = build_model(spec_of(name), canvas, budget)
    except UserError as error:
        return str(error)
    return None if model.network.eval()(torch.zeros(1, 1, *canvas)).shape == (1, 10) else "built, and unfit for use"


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("budget", [None, 400_000])
def test_a_canvas_is_large_enough_or_refused_in_a_sentence(name, budget):
    canvases = [canvas for side in (8, 14, 18, 20, 22, 24, 26) for canvas in ((side, side), (side, 40))]
    for height, width in canvases:
        sentence = refusal(name, (height, width), budget)
        if sentence is not None:
            assert f"model {name} cannot be built for a canvas of {height} x {width} pixels" in sentence
            assert "\n" not in sentence
    if "paper" in name:
        assert refusal(name, (8, 8), budget)


def test_precision_is_float32_where_the_recipe_says_so_and_autocast_follows():
    recipe = TrainingSpec.model_validate({**RECIPES["ours"], "precision": "float32"})
    assert precision_on(CPU, recipe) == "float32"
    convolution, image = torch.nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 5, 5)
    with autocast(CPU, "float32"):
        assert convolution(image).dtype == torch.float32
    with autocast(CPU, "bfloat16"):
        assert convolution(image).dtype == torch.bfloat16

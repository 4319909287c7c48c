"""Building: budgets kept, sizes told truly, transformers anywhere, and sentences where a model cannot be had."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stn_train.errors import UserError
from stn_train.geometry import FAMILIES, thin_plate_spline
from stn_train.models.network import build_model, measure_model
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer
from stn_train.specs import MODELS, DatasetSpec, ModelSpec


def spec_of(name: str, **transformer: object) -> ModelSpec:
    """A preset, or one whose transformer is changed."""
    if not transformer:
        return ModelSpec.model_validate(name)
    return ModelSpec.model_validate({"name": f"changed_{name}", "base": name, "transformer": transformer})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


PAPERS = ["fcn", "cnn_paper"] + [
    f"st_{classifier}{family}" for classifier in ("fcn", "cnn_paper") for family in ("", "_projective", "_tps")
]


@pytest.mark.parametrize("dataset", ["r", "rts", "p", "e", "tc", "addition"])
@pytest.mark.parametrize("name", [*PAPERS, "cnn", "st_cnn", "st_cnn_projective", "st_cnn_tps"])
def test_every_cell_of_the_papers_tables_keeps_within_two_per_cent_of_the_budget(dataset, name):
    data = DatasetSpec.model_validate(dataset)
    channels, classes = (2, 19) if data.addition else (1, 10)
    models = [spec_of(name)]
    if dataset == "addition" and models[0].transformer:
        models.append(spec_of(name, parallel=2))
    for spec in models:
        network = build_model(spec, data.canvas, 400_000, channels, classes)
        size = measure_model(spec, data.canvas, 400_000, channels, classes)
        assert size.parameters == count(network)
        assert abs(size.parameters - 400_000) <= 0.02 * 400_000
        images = torch.zeros(2, channels, *data.canvas)
        assert network(images).shape == (2, classes)


@pytest.mark.parametrize(
    "transformer", [{"before": [2]}, {"before": [0, 1, 2]}, {"before": [2, 2]}, {"before": [0, 0], "parallel": 2}]
)
def test_transformers_anywhere_keep_within_the_budget_too(transformer):
    network = build_model(spec_of("st_cnn_tps", **transformer), (42, 36), 400_000)
    assert abs(count(network) - 400_000) <= 0.02 * 400_000
    assert network(torch.zeros(2, 1, 42, 36)).shape == (2, 10)


def test_a_larger_budget_gives_a_wider_model():
    widths = [measure_model(spec_of("cnn"), (28, 28), budget).width for budget in (100_000, 400_000, 1_600_000)]
    assert widths == sorted(set(widths))


@pytest.mark.parametrize("name", MODELS)
def test_other_channels_and_classes_can_be_had(name):
    network = build_model(spec_of(name), (40, 32), channels=3, classes=7)
    assert network(torch.zeros(2, 3, 40, 32)).shape == (2, 7)
    assert measure_model(spec_of(name), (40, 32), channels=3, classes=7).parameters == count(network)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_a_transformer_where_its_specification_has_one(name):
    spec = spec_of(name)
    parts = dict(build_model(spec, (42, 36)).named_children())
    assert list(parts) == (["transformer", "classifier"] if spec.transformer else ["classifier"])
    if spec.transformer is not None:
        assert isinstance(parts["transformer"], SpatialTransformer)
        assert parts["transformer"].family == FAMILIES[spec.transformer.family]
        assert parts["transformer"](torch.zeros(1, 1, 42, 36)).shape == (1, 1, *spec.transformer.output_size)


@pytest.mark.parametrize("name", MODELS)
def test_no_model_writes_into_a_view_whose_gradient_would_be_a_copy_of_all_of_it(name):
    found, left = set(), [build_model(spec_of(name), (42, 36))(torch.rand(2, 1, 42, 36)).grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found.add(node)
            left += [before for before, _ in node.next_functions]
    assert len(found) > 10
    assert not [node.name() for node in found if "CopySlices" in node.name()]


def test_a_model_is_ready_to_be_trained():
    assert all(module.training for module in build_model(spec_of("st_cnn"), (28, 28)).modules())


def test_multiply_adds_are_those_counted_by_hand():
    size = measure_model(spec_of("cnn_paper"), (28, 28))
    w = round(size.width)
    first = 20 * 20 * w * 9 * 9  # 28 - 8 positions each way
    second = 4 * 4 * w * w * 7 * 7  # 20 / 2 - 6
    last = 2 * 2 * w * 10
    assert size.macs == first + second + last


def test_multiply_adds_are_the_same_the_first_time_and_afterwards():
    """A spline's weights are computed once for a size; this size is used nowhere else."""
    changed = {"base": "st_fcn_tps", "transformer": {"output_size": [23, 29]}}
    first, second = (
        measure_model(ModelSpec.model_validate({"name": name, **changed}), (28, 28)) for name in ("first", "second")
    )
    w = 256
    hidden = 28 * 28 * 32 + 2 * 32 * 32 + 32 * 32
    assert first.macs == second.macs
    assert first.macs == hidden + 23 * 29 * (16 * 2 + w) + w * w + w * 10


# --- where transformers stand -------------------------------------------------------------------------------------


def transformers_in(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, SpatialTransformer)]


@pytest.mark.parametrize(
    ("before", "names"),
    [
        ([0], ["transformer"]),
        ([2], ["classifier.2.transformer"]),
        ([0, 1], ["transformer", "classifier.1.transformer"]),
        ([0, 0], ["transformer.0", "transformer.1"]),
        ([2, 2], ["classifier.2.transformer", "classifier.2.module.transformer"]),
    ],
    ids=str,
)
def test_transformers_stand_before_the_layers_that_are_named(before, names):
    assert transformers_in(build_model(spec_of("st_cnn", before=before), (42, 36))) == names


def test_a_transformer_between_layers_starts_as_the_identity_and_keeps_the_size():
    torch.manual_seed(0)
    plain = build_model(spec_of("cnn"), (42, 36)).eval()
    torch.manual_seed(0)
    transformed = build_model(spec_of("st_cnn_projective", before=[1, 3, 3]), (42, 36)).eval()
    images = torch.rand(3, 1, 42, 36)
    torch.testing.assert_close(transformed(images), plain(images), rtol=0, atol=1e-4)
    assert transformed.classifier[1].transformer.output_size == (21, 18)


def test_two_in_a_row_at_the_input_read_the_canvas_and_what_the_first_puts_out():
    network = build_model(spec_of("st_cnn", before=[0, 0], output_size=[20, 16]), (42, 36))
    first, second = network.transformer
    images = torch.rand(2, 1, 42, 36)
    assert first(images).shape == second(first(images)).shape == (2, 1, 20, 16)
    assert torch.equal(network.transformer.eval()(images), second(first(images)))


@pytest.mark.parametrize(
    ("name", "canvas", "changed", "wanted"),
    [
        ("st_fcn", (28, 28), {}, 1),
        ("st_cnn_paper_tps", (42, 42), {}, 2),
        ("st_fcn", (60, 60), {}, 2),
        ("st_fcn", (28, 60), {"output_size": 14}, 4),
        ("st_fcn", (28, 28), {"output_size": 42}, 1),
        ("st_fcn", (84, 84), {"output_size": 14}, 4),
        ("st_cnn_paper", (42, 42), {"supersampling": 1}, 1),
        ("st_cnn", (42, 42), {}, 1),
        ("st_cnn", (42, 42), {"supersampling": 3}, 3),
    ],
)
def test_points_for_a_pixel_are_as_many_as_the_canvas_has_pixels_for_it(name, canvas, changed, wanted):
    assert build_model(spec_of(name, **changed), canvas).transformer.supersampling == wanted


def test_side_by_side_is_each_by_itself_and_the_classifier_gets_all_their_channels():
    """As for addition: two channels in, two transformers, four channels out."""
    network = build_model(spec_of("st_cnn_paper", parallel=2), (42, 42), channels=2, classes=19).eval()
    both = network.transformer
    assert isinstance(both, ParallelTransformers)
    for transformer in both.transformers:
        nn.init.normal_(transformer.localisation[-1].weight, std=0.05)
    images = torch.rand(3, 2, 42, 42)
    one, other = (transformer(images) for transformer in both.transformers)
    assert not torch.allclose(one, other, atol=0.01)
    assert torch.equal(both(images), torch.cat([one, other], dim=1))
    assert network.classifier[0][0].in_channels == 4
    assert network(images).shape == (3, 19)


def test_control_points_of_a_spline_are_those_asked_for():
    family = build_model(spec_of("st_fcn_tps", control_points=3), (28, 28)).transformer.family
    assert len(family.identity) == 18
    assert family == thin_plate_spline(3)


@pytest.mark.parametrize(
    ("name", "before", "sentence"),
    [
        ("st_cnn", 9, r"transformer\.before is 9, and the classifier's layers are 0 to 5"),
        (
            "st_fcn",
            1,
            "transformer.before is 1, and no transformer can stand before layer 1 of the classifier: it gets a "
            r"tensor of 2 dimensions, not a feature map \(N x C x H x W\); choose another of its layers, of which 0 "
            r"is the input$",
        ),
        ("st_cnn_paper", 1, "conv_paper needs 28 x 28 pixels or more and gets 17 x 17; conv takes that"),
        ("st_cnn", 4, "conv needs 8 x 8 pixels or more and gets 5 x 5; fc_paper takes that"),
    ],
)
def test_where_no_transformer_can_stand_is_told(name, before, sentence):
    with pytest.raises(UserError, match=rf"model changed_{name} cannot be built .*{sentence}"):
        build_model(spec_of(name, before=[before]), (42, 42), 400_000)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("st_cnn_paper") or name == "st_fcn_tps"])
def test_every_family_learns_a_few_steps_and_stays_finite(name, real_digits):
    torch.manual_seed(0)
    network = build_model(spec_of(name), (28, 28), 100_000)
    images, labels = real_digits[0].images[:64].float() / 255, real_digits[0].labels[:64]
    optimizer = torch.optim.AdamW(network.parameters(), 0.002)
    losses = []
    for _ in range(10):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())
    theta = network.transformer.warp(images)[1].detach()
    assert float((theta - torch.tensor(network.transformer.family.identity)).abs().max()) > 1e-4, (
        "it was the identity exactly"
    )


# --- refusals -----------------------------------------------------------------------------------------------------


def test_the_same_seed_builds_the_same_weights_and_another_seed_others():
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(torch.cat([p.flatten() for p in build_model(spec_of("st_cnn"), (42, 42)).parameters()]))
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])


@pytest.mark.parametrize(("name", "budget"), [("st_cnn", 1_000), ("cnn", 300), ("cnn_paper", 1_000)])
def test_a_budget_that_no_width_meets_is_refused_in_a_sentence(name, budget):
    with pytest.raises(UserError, match=rf"model {name} cannot have {budget:,} parameters within 2 %: the nearest"):
        build_model(spec_of(name), (42, 42), budget)


def refusal(name: str, canvas: tuple[int, int], budget: int | None) -> str | None:
    """What is said of a canvas that is too small; None where the model can be built and used."""
    try:
        network = build_model(spec_of(name), canvas, budget)
    except UserError as error:
        return str(error)
    return None if network.eval()(torch.zeros(1, 1, *canvas)).shape == (1, 10) else "built, and unfit for use"


@pytest.mark.parametrize("name", ["cnn", "st_cnn", "cnn_paper", "st_cnn_paper", "fcn", "st_fcn"])
@pytest.mark.parametrize("budget", [None, 400_000])
def test_a_canvas_is_large_enough_or_refused_in_a_sentence(name, budget):
    canvases = [canvas for side in (8, 14, 18, 20, 22, 24, 26) for canvas in ((side, side), (side, 40))]
    for height, width in canvases:
        sentence = refusal(name, (height, width), budget)
        if sentence is not None:
            assert f"model {name} cannot be built for images of {height} x {width} pixels" in sentence
            assert "pixels or more and gets" in sentence
    if "paper" in name:
        assert refusal(name, (8, 8), budget)


def test_a_model_is_measured_once_and_measuring_draws_nothing():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    size = measure_model(spec_of("st_cnn"), (30, 29), 90_000)
    assert torch.equal(torch.rand(3), expected)
    assert measure_model(spec_of("st_cnn"), (30, 29), 90_000) is size
    assert measure_model(spec_of("st_cnn"), (30, 29), 95_000) != size

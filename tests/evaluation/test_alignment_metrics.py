"""The evidence of real networks on real variants: the data's distortion meets the model's maps."""

from typing import Any

import pytest
import torch
from torch import nn

from stn_train.data.datasets import FixedDataset, make_fixed_dataset
from stn_train.data.distortion import true_poses
from stn_train.data.sources import load_digits
from stn_train.evaluation.alignment import alignment_metrics
from stn_train.evaluation.classify import classify
from stn_train.evaluation.metrics import AlignmentMetrics
from stn_train.models.network import build_model
from stn_train.models.transformer import SpatialTransformer
from stn_train.report.measures import removed
from stn_train.specs import DatasetSpec, ModelSpec

CPU = torch.device("cpu")


def variant_of(name: str) -> tuple[DatasetSpec, FixedDataset]:
    spec = DatasetSpec.model_validate(name)
    _, test = load_digits("digits")
    return spec, make_fixed_dataset(spec, test.subset(torch.arange(100)), "test")[0]


def gathered(dataset: str, transformer: dict[str, Any] | None, std: float = 0.0) -> AlignmentMetrics | None:
    """Of an untrained network, whose thetas leave the identity at random with a standard deviation."""
    spec, variant = variant_of(dataset)
    torch.manual_seed(0)
    model = ModelSpec.model_validate({"name": "made_up", "classifier": "cnn", "transformer": transformer})
    network = build_model(model, spec.canvas, 100_000, spec.channels, spec.classes)
    for module in network.modules():
        if isinstance(module, SpatialTransformer) and std:
            last = list(module.localisation.modules())[-1]
            assert isinstance(last, nn.Linear)
            nn.init.normal_(last.weight, std=std)
    poses = true_poses(spec, variant.theta) if network.pose == "oracle" else None
    thetas = classify(network, variant.images, CPU, "float32", poses).thetas
    return alignment_metrics(spec, variant, network, thetas, CPU, "float32")


@pytest.mark.parametrize("dataset", ["rts", "tc", "p", "e", "shear"])
@pytest.mark.parametrize("family", ["affine", "projective", "tps"])
def test_the_identity_undoes_nothing(dataset, family):
    alignment = gathered(dataset, {"family": family})
    assert alignment is not None
    assert {spread.component for spread in alignment.pose} == (
        {"rotation", "scale", "aspect", "shear", "translation"}
        if family != "tps" and dataset not in ("p", "e")  # at the identity, a projective map is affine
        else {"translation", "non_affine"}
    )
    assert all(removed(spread) in (None, pytest.approx(0, abs=1e-3)) for spread in alignment.pose)
    assert any(removed(spread) is not None for spread in alignment.pose)
    assert alignment.residual_curves or (family, dataset) == ("tps", "shear"), (
        "seen by points, a shear has a shape alone"
    )
    for response in alignment.residual_curves:
        assert response.after == pytest.approx(response.before, abs=1e-3)
    assert alignment.ink > 0.9, "all of the canvas, and hardly any ink lies off it"


@pytest.mark.parametrize("dataset", ["rts", "tc", "p", "e"])
def test_among_draws_of_a_digit_the_distortion_varies_as_among_digits(dataset):
    alignment = gathered(dataset, {})
    assert alignment is not None
    for of_all, of_a_digit in zip(alignment.pose, alignment.pose_of_a_digit, strict=True):
        assert of_a_digit.before == pytest.approx(of_all.before, rel=0.25, abs=1e-6)
        assert removed(of_a_digit) in (None, pytest.approx(0, abs=1e-3))


def test_spreads_are_those_of_the_distortion():
    """RTS turns by up to 45 degrees and scales by 0.7 to 1.2, uniformly."""
    alignment = gathered("rts", {})
    assert alignment is not None
    before = {spread.component: spread.before for spread in alignment.pose}
    assert before["rotation"] == pytest.approx(90 / 12**0.5, rel=0.06)
    assert before["scale"] == pytest.approx(0.154, rel=0.08), "of the logarithm of a uniform factor"
    assert before["aspect"] < 1e-6
    assert before["shear"] < 1e-6


@pytest.mark.parametrize("dataset", ["rts", "p"])
def test_the_true_pose_undoes_all_of_it(dataset):
    alignment = gathered(dataset, {"pose": "oracle", "output_size": 28})
    assert alignment is not None
    for pose in (alignment.pose, alignment.pose_of_a_digit):
        scores = {spread.component: removed(spread) for spread in pose if removed(spread) is not None}
        names = ("rotation", "scale", "translation") if dataset == "rts" else ("translation", "non_affine")
        assert scores == {name: pytest.approx(100, abs=1e-2) for name in names}
    assert alignment.residual_curves
    for response in alignment.residual_curves:
        assert max(map(abs, response.after)) < 1e-3 * max(response.before)
    shares = (alignment.iou, alignment.iou_found, alignment.aligned, alignment.aligned_found)
    assert shares == pytest.approx((1, 1, 1, 1), abs=0.01)
    digits, images = alignment.within_classes_digits, alignment.within_classes_images
    assert digits is not None
    assert images is not None
    assert alignment.within_classes_output == pytest.approx(digits, abs=0.06), "but for reading between pixels, twice"
    assert images > digits + 0.1


def test_the_identity_leaves_images_as_alike_as_they_are():
    alignment = gathered("e", {})
    assert alignment is not None
    assert alignment.within_classes_output == pytest.approx(alignment.within_classes_images, abs=1e-6)


def test_moving_at_random_makes_matters_worse():
    alignment = gathered("r", {}, std=0.2)
    assert alignment is not None
    angle, *_, place = alignment.pose
    assert removed(angle) is not None
    assert removed(angle) < 0
    assert place.after > place.before


def test_transformers_in_a_row_are_composed():
    alone, row = (gathered("rts", {"before": [0] * count}, std=0.05) for count in (1, 2))
    assert alone is not None
    assert row is not None
    assert [spread.component for spread in row.pose] == [spread.component for spread in alone.pose]
    assert row.pose != alone.pose


@pytest.mark.parametrize(
    ("dataset", "transformer"), [("rts", None), ("rts", {"before": [2]}), ("rts", {"parallel": 2}), ("addition", {})]
)
def test_without_one_pose_there_is_nothing_to_tell(dataset, transformer):
    assert gathered(dataset, transformer) is None

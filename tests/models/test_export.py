"""Exported programs: of every family, in every place, for batches of any size, and leaving nothing behind."""

import pytest
import torch
from torch import nn

from stn_train.geometry import FAMILIES, Family, thin_plate_spline
from stn_train.models.localisation import conv
from stn_train.models.network import build_model
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer
from stn_train.specs import ModelSpec

SIZE = (24, 28)
EVERY = {**FAMILIES, "tps_5": thin_plate_spline(5)}


def moved(network: nn.Module) -> nn.Module:
    """At rest, and away from the identity."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, SpatialTransformer) and isinstance(module.localisation, nn.Sequential):
            nn.init.normal_(module.localisation[-1].weight, std=0.01)
    return network.eval()


def transformer(family: Family, supersampling: int) -> SpatialTransformer:
    return SpatialTransformer(conv(family, SIZE, 1), family, (14, 10), supersampling=supersampling)


def answers_alike_for_any_batch(network: nn.Module) -> None:
    images = torch.rand(9, 1, *SIZE)
    any_batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(network, (images[:4],), dynamic_shapes=(any_batch,)).module()
    for batch in (images, images[:2], images[:5]):
        torch.testing.assert_close(program(batch), network(batch))
    torch.testing.assert_close(network(images)[:2], network(images[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", EVERY.values(), ids=list(EVERY))
def test_transformers_of_every_family_are_exported_with_a_free_batch(family):
    answers_alike_for_any_batch(moved(transformer(family, supersampling=1)))
    answers_alike_for_any_batch(moved(ParallelTransformers(transformer(family, supersampling=2) for _ in range(2))))


@pytest.mark.parametrize(
    ("base", "changed"),
    [
        ("st_cnn", {"before": [0, 1, 2], "family": "tps", "control_points": 3}),
        ("st_cnn", {"localisation": "keypoints", "parallel": 2, "supersampling": 2}),
        ("st_cnn_paper", {"localisation": "fc_paper", "pose": "supervised"}),
        ("st_fcn_tps", {"pose": "identity"}),
        ("st_fcn", {"pose": "oracle"}),
    ],
    ids=str,
)
@pytest.mark.slow
def test_networks_are_exported_with_a_free_batch(base, changed):
    spec = ModelSpec.model_validate({"name": "made_up", "base": base, "transformer": changed})
    answers_alike_for_any_batch(moved(build_model(spec, SIZE)))

"""Networks in half precision, and in double: they run, they start at the identity, and coordinates stay precise."""

import copy

import pytest
import torch
from torch import Tensor, nn

from stn_train.geometry import AFFINE, FAMILIES, bilinear_sampler, thin_plate_spline
from stn_train.models.insert import insert_transformer
from stn_train.models.localisation import LOCALISATIONS, conv
from stn_train.models.localisation_parts import SpatialSoftArgmax
from stn_train.models.network import build_model
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer
from stn_train.specs import MODELS, READ_OFF, ModelSpec

OF_ANY_FAMILY = [name for name in LOCALISATIONS if name not in READ_OFF]  # which start at no identity

TYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
EVERY = {**FAMILIES, "tps_5": thin_plate_spline(5)}


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@TYPES
@pytest.mark.parametrize("family", EVERY.values(), ids=list(EVERY))
@pytest.mark.parametrize("localisation", OF_ANY_FAMILY)
def test_a_fresh_transformer_is_the_identity_of_every_family(family, localisation, dtype):
    images = random_images(2, 1, 28, 36).to(dtype)
    network = nn.Sequential(
        SpatialTransformer(LOCALISATIONS[localisation](family, (28, 36), 1), family, (28, 36)),
        nn.Conv2d(1, 2, 3),
    ).to(dtype)
    output, theta = network[0].warp(images)
    assert theta.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(theta, torch.tensor(family.identity, dtype=theta.dtype).expand(2, -1))
    assert output.dtype == network(images).dtype == dtype
    torch.testing.assert_close(output, images, rtol=0, atol=max(torch.finfo(dtype).eps, 1e-12 * 28))


@pytest.mark.parametrize("family", EVERY.values(), ids=list(EVERY))
def test_back_in_float32_and_after_any_move_the_identity_is_what_it_was(family):
    transformer = SpatialTransformer(conv(family, (16, 16), 1), family, (16, 16))
    before, images = transformer(random_images(2, 1, 16, 16)), random_images(2, 1, 16, 16)
    for there in (nn.Module.half, nn.Module.bfloat16, nn.Module.double):
        assert torch.equal(there(transformer).float()(images), before)
    empty = copy.deepcopy(transformer).to("meta").to_empty(device="cpu")
    empty.load_state_dict(transformer.state_dict())
    assert torch.equal(empty(images), before)


@TYPES
@pytest.mark.parametrize("name", MODELS)
def test_networks_answer_as_in_float32_and_learn(name, dtype):
    torch.manual_seed(0)
    network, images = build_model(ModelSpec.model_validate(name), (28, 28)).eval(), random_images(4, 1, 28, 28)
    expected = network(images).detach()
    logits = network.to(dtype)(images.to(dtype))
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.02)
    network(images.to(dtype)).float().logsumexp(1).sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in network.parameters())
    assert any(bool(parameter.grad.any()) for parameter in network.parameters())


@TYPES
def test_transformers_side_by_side_in_a_row_and_between_layers_are_of_the_models_type(dtype):
    sides = ParallelTransformers(SpatialTransformer(conv(AFFINE, (16, 16), 1), AFFINE, (16, 16)) for _ in range(2))
    row = SpatialTransformer(conv(AFFINE, (16, 16), 2), AFFINE, (16, 16), supersampling=2)
    model = nn.Sequential(sides, row, nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3)).to(dtype)
    insert_transformer(model, before="3", image=(1, 16, 16))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model(random_images(2, 1, 16, 16).to(dtype)).dtype == dtype


@TYPES
def test_the_grid_is_precise_whatever_the_images_are_of(dtype):
    theta = torch.tensor([[0.9, 0.1, 0.03, -0.2, 1.1, 0.07]])
    transformer = SpatialTransformer(conv(AFFINE, (60, 60), 1), AFFINE, (28, 28))
    with torch.no_grad():
        transformer.localisation[-1].bias.copy_(theta[0] - torch.tensor(AFFINE.identity))
    transformer.to(dtype)
    images = random_images(1, 1, 60, 60).to(dtype)
    output, found = transformer.warp(images)
    assert torch.equal(output, bilinear_sampler(images, AFFINE.grid(found, (28, 28))).to(dtype))
    torch.testing.assert_close(found.float(), theta, rtol=0, atol=0.3 * torch.finfo(torch.bfloat16).eps)


@TYPES
def test_a_keypoint_is_found_in_float32_or_wider(dtype):
    maps = (9 * random_images(4, 2, 14, 14)).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    assert SpatialSoftArgmax()(maps).dtype == wide
    assert torch.equal(SpatialSoftArgmax()(maps), SpatialSoftArgmax()(maps.to(wide)))

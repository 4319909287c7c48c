"""Classifying: counted the right way round, whatever the batch, and with every transformer's own theta."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from stn_train.evaluation import classify as classify_module
from stn_train.evaluation.classify import Predictions, classify
from stn_train.geometry import AFFINE
from stn_train.models.network import build_model
from stn_train.models.transformer import SpatialTransformer, ThetaHead
from stn_train.specs import ModelSpec

CPU = torch.device("cpu")


def random_images(count: int) -> Tensor:
    """Coarse patterns, of which no two are alike."""
    coarse = torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return coarse.repeat_interleave(7, 2).repeat_interleave(7, 3)


def small_network(transformed: bool = True) -> nn.Sequential:
    """With batch normalisation and dropout, which are to be at rest in an evaluation."""
    torch.manual_seed(0)
    localisation = nn.Sequential(
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 8), nn.BatchNorm1d(8), ThetaHead(8, AFFINE)
    )
    nn.init.normal_(localisation[-1].weight, std=0.1)
    features = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(4), nn.Dropout(), nn.Flatten())
    logits = (nn.LazyLinear(10), nn.BatchNorm1d(10))  # normalised, every class wins somewhere
    classifier = nn.Sequential(*features, *logits)
    parts = OrderedDict(classifier=classifier)
    if transformed:
        parts = OrderedDict(transformer=SpatialTransformer(localisation, AFFINE, (14, 14)), classifier=classifier)
    network = nn.Sequential(parts)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    network(random_images(32).float() / 255)
    return network


def test_rows_of_the_confusion_are_true_classes_and_columns_predicted_ones():
    labels, logits = torch.tensor([0, 0, 0, 1, 2]), torch.eye(3)[[0, 2, 2, 1, 0]]
    predictions = Predictions(logits, logits.argmax(1), (), 0.0)
    confusion = predictions.confusion(labels, classes=3)
    assert confusion.tolist() == [[1, 0, 2], [0, 1, 0], [1, 0, 0]]
    assert predictions.confusion(labels, classes=19).shape == (19, 19)


@pytest.mark.parametrize("transformed", [False, True])
def test_predictions_are_the_networks_and_do_not_depend_on_the_batch(monkeypatch, transformed):
    network, images = small_network(transformed), random_images(60)
    with torch.no_grad():
        expected = network.eval()(images.float() / 255).argmax(1)
    assert len(expected.unique()) > 3
    thetas = []
    for size in (1, 7, 60, 500):
        monkeypatch.setattr(classify_module, "BATCH", size)
        found = classify(network.train(), images, CPU, "float32")
        assert torch.equal(found.predicted, expected)
        assert len(found.thetas) == transformed
        thetas += found.thetas
    assert all(torch.allclose(theta, thetas[0], rtol=0, atol=1e-6) for theta in thetas)


def test_theta_is_the_transformers_for_each_image_in_its_place():
    network, images = small_network(), random_images(30)
    (theta,) = classify(network, images, CPU, "float32").thetas
    assert theta.shape == (30, 6)
    assert theta.dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(theta, network.transformer.localisation(images.float() / 255), rtol=0, atol=1e-6)
    assert len(theta.unique(dim=0)) == 30


def test_classifying_changes_nothing_in_the_network():
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    classify(network, random_images(20), CPU, "float32")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_every_transformer_tells_its_theta_in_the_order_of_the_forward_pass():
    torch.manual_seed(0)
    spec = {"name": "many", "base": "st_cnn", "transformer": {"family": "attention", "before": [0, 2, 1]}}
    network = build_model(ModelSpec.model_validate(spec), (28, 28))
    wanted = [network.transformer, *(network.classifier[layer].transformer for layer in (1, 2))]
    for number, transformer in enumerate(wanted):
        nn.init.constant_(transformer.localisation[-1].bias, 0.1 * number)
    thetas = classify(network, random_images(20), CPU, "float32").thetas
    assert [theta.shape for theta in thetas] == [(20, 3)] * 3
    for number, theta in enumerate(thetas):
        torch.testing.assert_close(theta, (torch.tensor([1.0, 0.0, 0.0]) + 0.1 * number).expand(20, 3))


def test_nothing_is_recorded_afterwards():
    network = small_network()
    classify(network, random_images(2), CPU, "float32")
    assert all(not module._forward_hooks for module in network.modules())

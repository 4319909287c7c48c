"""Class means: of the right images, whatever the batch."""

import pytest
import torch
from torch import nn

from stn_train.evaluation import means
from stn_train.evaluation.means import class_means

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [1, 4, 100])
def test_means_are_those_of_each_class_before_and_after(monkeypatch, size):
    monkeypatch.setattr(means, "BATCH", size)
    images = torch.randint(0, 256, (11, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(11) % 3
    before, after = class_means(nn.AvgPool2d(2), images, labels, 4, CPU)
    for label in range(3):
        mean = (images[labels == label].float() / 255).mean(dim=0)
        torch.testing.assert_close(before[label], mean)
        torch.testing.assert_close(after[label], nn.functional.avg_pool2d(mean, 2))
    assert not before[3].any()
    assert not after[3].any()

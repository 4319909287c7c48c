"""Rows about a small network like that of PyTorch's tutorial on spatial transformers, trained its way and ours."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmark.images import WORKERS, PilDigits
from benchmark.rows import Row, Setting, Target
from benchmark.timing import Work, side_by_side
from stn_train.data.datasets import OnlineDataset
from stn_train.models.network import Network
from stn_train.specs import RECIPES, DatasetSpec, TrainingSpec
from stn_train.training.loop import TrainingState, train

_IMAGES = 30 * 256
_BATCH = 64
_EPOCHS = 10_000


class TutorialNetwork(nn.Module):
    """27 k parameters, N x 1 x 28 x 28 to N x 10: two convolutions and two layers behind an affine transformer."""

    def __init__(self) -> None:
        super().__init__()
        theta = nn.Linear(32, 6)
        nn.init.zeros_(theta.weight)
        theta.bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        self.localisation = nn.Sequential(
            nn.Conv2d(1, 8, 7),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(8, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(90, 32),
            nn.ReLU(),
            theta,
        )
        self.classifier = nn.Sequential(
            nn.Conv2d(1, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(10, 20, 5),
            nn.Dropout2d(),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(320, 50),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(50, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        theta = self.localisation(images).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        logits: Tensor = self.classifier(F.grid_sample(images, grid, align_corners=False))
        return logits


def _its_way(setting: Setting) -> Work:
    """An epoch with a DataLoader, in float32 and with plain SGD."""
    device = setting.runtime.device
    digits = setting.digits.subset(torch.arange(_IMAGES))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    dataset = PilDigits(digits, transform)
    loader = DataLoader(dataset, _BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    network = TutorialNetwork().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def epoch() -> None:
        network.train()
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(images.to(device)), labels.to(device)).backward()
            optimizer.step()

    return epoch


def _our_way(setting: Setting, batch_size: int) -> Work:
    """An epoch of our loop, with the paper's SGD, in the precision that we would choose."""
    device = setting.runtime.device
    keys: dict[str, Any] = {"epochs": _EPOCHS, "batch_size": batch_size, "precision": "auto"}
    recipe = TrainingSpec.model_validate({**RECIPES["paper"], **keys})
    digits = setting.digits.subset(torch.arange(_IMAGES))
    network = Network(None, TutorialNetwork()).to(device).to(memory_format=torch.channels_last)
    state = TrainingState.start(network, recipe)
    data = OnlineDataset(DatasetSpec.model_validate("plain"), digits.to(device))
    epochs = train(state, data, recipe, 0, device)
    return lambda: next(epochs)


def _training(batch_size: int) -> Callable[[Setting], list[float]]:
    def measure(setting: Setting) -> list[float]:
        pairs = side_by_side(_our_way(setting, batch_size), _its_way(setting), 3, setting.clock)
        return [pair.speedup for pair in pairs]

    return measure


_OPPONENT = f"its own way: DataLoader, {WORKERS} workers, batches of {_BATCH}"

ROWS = (
    Row("tutorial/64", _OPPONENT, Target("at least", 3), _training(64)),
    Row("tutorial/256", _OPPONENT, Target("at least", 8), _training(256)),
)

"""Does a spatial transformer help torchvision's ResNet-18 on digits that are rotated, scaled and moved about?

Trains it twice, without and with a transformer, at the same number of steps, and prints both test errors:

    python scripts/resnet_example.py --epochs 3 --before ""       # in front of the network
    python scripts/resnet_example.py --epochs 3 --before layer1   # inside it

The digits are those that ship with scikit-learn; --source mnist takes MNIST's.
"""

import argparse
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train import insert_transformer, load_images
from stn_train.data.datasets import OnlineDataset, make_fixed_dataset
from stn_train.specs import DATASETS, DatasetSpec

BATCH = 128


def in_colour(images: Tensor) -> Tensor:
    """N x 3 x H x W, as a ResNet wants it, from N x 1 x H x W."""
    return images.expand(-1, 3, -1, -1)


def train(model: nn.Module, data: OnlineDataset, epochs: int) -> None:
    """AdamW with a one-cycle rate; a twentieth of it for the localisation network."""
    localising = {id(p) for name, p in model.named_parameters() if ".localisation." in f".{name}"}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if id(p) not in localising], "lr": 2e-3},
        {"params": [p for p in model.parameters() if id(p) in localising], "lr": 1e-4},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = epochs * max(len(data) // BATCH, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [group["lr"] for group in groups], total_steps=steps)
    model.train()
    for epoch in range(epochs):
        for batch in data.batches(seed=0, epoch=epoch, size=BATCH):
            loss = F.cross_entropy(model(in_colour(batch.images)), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"  epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}")


@torch.no_grad()
def error_of(model: nn.Module, images: Tensor, labels: Tensor, device: torch.device) -> float:
    """The percentage of uint8 images that the model takes for another digit."""
    model.eval()
    logits = [model(in_colour(batch.to(device).float() / 255)) for batch in images.split(500)]
    return 100 * (torch.cat(logits).argmax(1).cpu() != labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--before", default="", help="before which part of the network; nothing: in front of all of it")
    parser.add_argument("--dataset", default="rts", choices=[name for name in DATASETS if name != "addition"])
    parser.add_argument("--source", default="digits", choices=["digits", "mnist"])
    parser.add_argument("--digits", type=int, help="use only so many digits of each split")
    asked = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = DatasetSpec.model_validate(asked.dataset)
    training, test = (split.subset(torch.arange(len(split))[: asked.digits]) for split in load_images(asked.source))
    data = OnlineDataset(spec, training.to(device))
    variant, *_ = make_fixed_dataset(spec, test, "test")
    for transformed in (False, True):
        torch.manual_seed(0)
        model: nn.Module = torchvision.models.resnet18(num_classes=10)
        if transformed:
            model = insert_transformer(model, before=asked.before, family="affine", image=(3, *spec.canvas))
        model.to(device)
        print(f"ResNet-18{f' with a transformer before {asked.before!r}' if transformed else ''}:")
        train(model, data, asked.epochs)
        print(f"  test error {error_of(model, variant.images, variant.labels, device):.2f} %")


if __name__ == "__main__":
    main()

"""Make the pair of networks that ships with the package, `stn_train/shipped`: `python scripts/shipped.py`.

A CNN and an ST-CNN of 60,000 parameters each, trained on all of MNIST's training digits as the dataset `rts` has them.
About ten minutes on one CPU core (AMD EPYC, nothing else on it). A run that was stopped is taken up again.
"""

import io
from pathlib import Path

import torch
import typer

from stn_train import run, storage
from stn_train.experiment.load import SHIPPED, load_trained
from stn_train.experiment.runtime import Runtime
from stn_train.specs import trials_of
from stn_train.training.checkpoint import read_checkpoint

CONFIG = """
# The pair that ships with the package; scripts/shipped.py makes it again.
name: shipped
datasets: [rts]
models: [cnn, {name: st_cnn_keypoints, base: st_cnn, transformer: {localisation: keypoints, output_size: 20}}]
parameters: 60_000
training:
  {epochs: 12, batch_size: 128, optimizer: muon, warmup: 0.05, localisation_lr: 1.0, classifier_delay: 0.2,
   elastic_augmentation: 1.0}
"""


def main(output_dir: Path = Path("runs/shipped"), data_root: str | None = None) -> None:
    """Train the pair into `output_dir`, and write its weights, without what training needs, into the package."""
    config = output_dir / "shipped.yaml"
    storage.write(config, CONFIG.lstrip())
    trained = run(config, output_dir=output_dir, data_root=data_root, threads=1)
    print(trained.summary[["model", "accuracy", "parameters"]].to_string())
    storage.write(SHIPPED / "config.yaml", CONFIG.lstrip())
    for trial in trials_of(trained.experiment):
        checkpoint = trained.folder.trial(trial).checkpoint
        network = load_trained(checkpoint, Runtime(torch.device("cpu"))).network
        content = read_checkpoint(checkpoint) | {"trial": trial.model_dump_json(), "network": network.state_dict()}
        content |= {"optimizer": None, "average": None, "records": []}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        path = SHIPPED / "trials" / trial.key / "checkpoint.pt"
        storage.write(path, buffer.getvalue(), storage.ARCHIVE)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    typer.run(main)

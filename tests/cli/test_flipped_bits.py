"""A single bit that has flipped anywhere in a file that is kept is noticed, and the file named."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from stn_train import storage
from stn_train.colocalisation.report import ColocalisationFolder
from stn_train.colocalisation.spec import ColocalisationSpec, cells_of
from stn_train.config import load_config
from stn_train.data.prebuilt import load_prebuilt
from stn_train.data.sources import load_images
from stn_train.errors import UserError
from stn_train.evaluation.metrics import AlignmentMetrics, Point, Robustness
from stn_train.report.snapshots import KINDS
from stn_train.report.write import load_environment
from stn_train.run_folder import Timing, TrialFolder, TrialResult
from stn_train.training.checkpoint import read_checkpoint

TRIAL = TrialFolder(Path("runs/small/trials/r/st_cnn/seed-0"))
OF_A_TRIAL: dict[str, Callable[[], object]] = {
    "result.json": lambda: TRIAL.load(TrialResult, TRIAL.result),
    "timing.json": lambda: TRIAL.load(Timing, TRIAL.timing),
    "alignment.json": lambda: TRIAL.load(AlignmentMetrics, TRIAL.alignment),
    "robustness.json": lambda: TRIAL.load(Robustness, TRIAL.robustness),
    "metrics.jsonl": TRIAL.load_metrics,
    "predictions.npz": lambda: TRIAL.load_predictions(addition=False),
    **{f"{kind}.npz": TRIAL.load_gallery for kind in KINDS},
    "checkpoint.pt": lambda: read_checkpoint(TRIAL.checkpoint),
}
WHERE = """\
task: colocalisation
source: digits
datasets: [{name: t, base: translation, canvas: 56}]
classes: [3]
encoder: {dataset: {name: moved, translation: 1}, parameters: 10_000, epochs: 1}
localiser: {localisation: keypoints, margin: 1.0, steps: 3, batch_size: 8, lr: 0.003}
"""


@pytest.fixture
def flip(trials) -> Callable[..., None]:
    """Flip random bits of a file, one at a time; each time reading it must be refused by its name."""

    def flip(path: Path, read: Callable[[], object], short: int = 3) -> None:
        whole, chance, flips, noticed = path.read_bytes(), Random(path.name), trials(short, 200), 0
        with path.open("r+b", buffering=0) as file:
            for _ in range(flips):
                byte, bit = chance.randrange(len(whole)), chance.randrange(8)
                os.pwrite(file.fileno(), bytes([whole[byte] ^ 1 << bit]), byte)
                try:
                    read()
                except UserError as error:
                    noticed += f"{path} is " in str(error) and "; " in str(error) and "\n" not in str(error)
                os.pwrite(file.fileno(), whole[byte : byte + 1], byte)
        read()
        print(f"{path}: {noticed} of {flips} flipped bits noticed")
        assert noticed == flips

    return flip


@pytest.fixture
def measured(trained) -> None:
    """A finished run whose robustness has been measured, as far as anybody can tell."""
    point = Point(factor="rotation", level=30.0, images=120, errors=2, clipped=0)
    found = Robustness(points=(point,), wrong_at_some_angle=2, crossed=())
    storage.write_record(TRIAL.robustness, found.model_dump(mode="json"))


@pytest.mark.parametrize("name", OF_A_TRIAL)
def test_in_a_trials_files(measured, flip, name):
    flip(TRIAL.path / name, OF_A_TRIAL[name])


def test_in_what_is_known_of_the_machine(trained, flip):
    path = Path(trained, "environment.json")
    flip(path, lambda: load_environment(path))


@pytest.mark.parametrize(
    "name", ["result.json", "timing.json", "alignment.json", "metrics.jsonl", "predictions.npz", "training.npz"]
)
def test_a_report_is_refused_because_of_any(measured, stn, name):
    path = TRIAL.path / name
    content = bytearray(path.read_bytes())
    content[Random(name).randrange(len(content))] ^= 1
    path.write_bytes(content)
    sentence = stn("report", "runs/small").sentence
    assert sentence.startswith(f"{path} is damaged")
    assert f"delete {TRIAL.result}" in sentence, "how to mend it"


def test_what_the_sentence_says_mends_a_trial(measured, stn, finished):
    TRIAL.predictions.write_bytes(b"damaged")
    assert "predictions.npz is damaged" in stn("report", "runs/small").sentence
    TRIAL.result.unlink()
    assert stn("run", "--config", "small.yaml", "--threads", "1", "-q", "--only", "r/st_cnn").code == 0
    for name in ("result.json", "predictions.npz"):
        assert (TRIAL.path / name).read_bytes() == (finished[0].parents[1] / TRIAL.path / name).read_bytes()


def test_in_a_built_variants_files(stn, flip):
    assert stn("data", "build", "--config", "small.yaml", "--output-dir", "built").code == 0
    experiment = load_config("small.yaml")
    files = sorted(path for path in Path("built").rglob("[!.]*") if path.is_file())
    assert len(files) == 7
    for path in files:
        flip(path, lambda: load_prebuilt(experiment.datasets[0], experiment.source, Path("built")))


def test_in_a_cells_files_and_what_the_sentence_says_mends_it(stn, flip):
    command = ("colocalise", "--config", "where.yaml", "-q")
    Path("where.yaml").write_text(WHERE)
    assert stn(*command).code == 0
    folder, (cell,) = (
        ColocalisationFolder(Path("runs/where")),
        cells_of(load_config("where.yaml", kind=ColocalisationSpec)),
    )
    folder.samples(cell).write_bytes(b"damaged")
    mend = f"delete {folder.cell(cell)} and give the run's command again, which trains it anew"
    assert stn(*command).sentence.endswith(mend)
    shutil.rmtree(folder.cell(cell))
    assert stn(*command).code == 0
    flip(folder.result(cell), lambda: folder.load_result(cell))
    flip(folder.samples(cell), lambda: folder.load_samples(cell))


def test_in_mnists_files(tmp_path, flip, mnist_folder):
    shutil.copytree(mnist_folder / "MNIST/raw", tmp_path / "MNIST/raw", ignore=shutil.ignore_patterns("*.gz"))
    files = sorted((tmp_path / "MNIST/raw").iterdir())
    assert len(files) == 4
    for path in files:
        flip(path, lambda: load_images("mnist", str(tmp_path)), short=1)

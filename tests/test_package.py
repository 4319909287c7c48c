"""What can be imported from the package itself."""

import subprocess
import sys
from pathlib import Path

import pytest

import stn_train
from stn_train.specs import trials_of
from stn_train.training.checkpoint import save_checkpoint
from stn_train.training.loop import TrainingState


@pytest.mark.parametrize("name", stn_train.__all__)
def test_every_public_name_is_found_and_listed(name: str) -> None:
    assert getattr(stn_train, name) is not None
    assert name in dir(stn_train)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        stn_train.nothing  # noqa: B018


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, stn_train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_network_that_is_only_read_needs_no_compiler() -> None:
    code = (
        "import sys, torch, stn_train; from stn_train.experiment.load import SHIPPED, checkpoints_in;"
        "compiler = 'torch._dynamo'; asked = compiler not in sys.modules;"  # which takes as long to import as torch
        "stn_train.load_network(checkpoints_in(SHIPPED)[0])(torch.zeros(1, 1, 42, 42));"
        "sys.exit(asked and compiler in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


USES = {
    "DatasetSpec": "assert st.DatasetSpec.model_validate('rts').canvas == (42, 42)",
    "LOCALISATIONS": "assert st.LOCALISATIONS['conv'](affine, (42, 42), 1)(images).shape == (5, 6)",
    "Run": "assert isinstance(run, st.Run)",
    "evaluate": "assert len(st.evaluate(st.build_model('cnn', (42, 42)), fixed).predicted) == len(fixed)",
    "load_run": "assert st.load_run('run').trials.shape[0] == 3",
    "make_dataset": "assert fixed[0][0].shape == (1, 42, 42)",
    "run": "assert run.summary.shape[0] == 3",
    "thin_plate_spline": "assert len(st.thin_plate_spline(3).identity) == 18",
    "FAMILIES": "assert len(st.FAMILIES) == 9",
    "Family": "assert all(isinstance(family, st.Family) for family in st.FAMILIES.values())",
    "MatrixFamily": "assert st.MatrixFamily('s', (1.0,), 's', 's 0 0  0 s 0  0 0 1').identity == (1.0,)",
    "ThetaHead": "assert st.ThetaHead(9, affine)(torch.rand(2, 9)).tolist() == [list(affine.identity)] * 2",
    "ParallelTransformers": "assert st.ParallelTransformers([transformer] * 2)(images).shape == (5, 2, 28, 28)",
    "SpatialTransformer": "assert transformer(images).shape == (5, 1, 28, 28)",
    "bilinear_sampler": "assert st.bilinear_sampler(images, affine.grid(torch.zeros(5, 6), (3, 4))).shape[3] == 4",
    "build_model": "assert st.build_model('st_cnn', (42, 42), parameters=60_000)(images).shape == (5, 10)",
    "sample_distortion": "assert len(st.sample_distortion(dataset, test, 1, 'train')[0].theta) == 10 * len(test)",
    "insert_transformer": "assert st.insert_transformer(torch.nn.ReLU(), image=(1, 42, 42))(images).ndim == 4",
    "load_config": "assert st.load_config('quickstart').name == 'quickstart'",
    "load_images": "assert test.images.shape[1:] == (1, 28, 28)",
    "load_network": "assert st.load_network('checkpoint.pt')(images).shape == (5, 10)",
    "render": "assert images.shape == (5, 1, 42, 42) and 0.5 < images.max() <= 1",
}
"""What a reader of the package's names would do with each, with what they give each other and with torch."""

BEFORE = """
import torch, stn_train as st
_, test = st.load_images("digits")
config = st.load_config("quickstart")
dataset, affine = config.datasets[0], st.FAMILIES["affine"]
images = st.render(dataset, test, st.sample_distortion(dataset, test, seed=0, split="test"), torch.arange(5))
localise = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(42 * 42, 6))
transformer = st.SpatialTransformer(localise, affine, (28, 28))
short = {"training.train_size": 100, "robustness": False}
run = st.run("quickstart", set=short, output_dir="run", threads=1, quiet=True)
fixed = st.make_dataset("rts", source="digits")
"""


@pytest.mark.slow
def test_every_public_name_can_be_used_with_nothing_but_the_package_and_torch(tmp_path: Path) -> None:
    assert USES.keys() == set(stn_train.__all__)
    trial = trials_of(stn_train.load_config("quickstart"))[1]
    network = stn_train.build_model(trial.model, trial.dataset.canvas, parameters=trial.parameters)
    save_checkpoint(tmp_path / "checkpoint.pt", trial, TrainingState.start(network, trial.training))
    code = "\n".join([BEFORE, *USES.values()])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

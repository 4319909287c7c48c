"""Files that somebody made to do harm: exit code 2, one sentence, nothing run and nothing written elsewhere."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stn_train import storage

RUN = ("run", "--config", "small.yaml", "--threads", "1", "--quiet")
TRIAL = Path("runs/small/trials/r/st_cnn/seed-0")
CHECKPOINT = TRIAL / "checkpoint.pt"


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    """An archive whose seal is sound: who makes a file can make that, too."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    storage.write(path, file.getvalue(), storage.ARCHIVE)


def save(content: object, path: Path = CHECKPOINT) -> None:
    file = io.BytesIO()
    torch.save(content, file)
    storage.write(path, file.getvalue(), storage.ARCHIVE)


# --- checkpoints ------------------------------------------------------------------------------------------------


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def first(tensors: dict[str, Any]) -> str:
    return next(name for name, tensor in tensors.items() if tensor.ndim > 1)


def put(content: dict[str, Any], part: str, make: Callable[[torch.Tensor], object]) -> None:
    name = first(content[part])
    content[part][name] = make(content[part][name])


def remember(content: dict[str, Any], make: Callable[[dict[str, Any]], object]) -> None:
    state = content["optimizer"]["state"]
    state[0] = make(state[0])


ATTACKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "code": lambda content: content.update(network=Call(os.mkdir, "was_run")),
    "code in a loss": lambda content: content["step_losses"].append(Call(os.system, "mkdir was_run")),
    "another format": lambda content: content.update(format=99),
    "a key too few": lambda content: content.pop("step_losses"),
    "no trial": lambda content: content.update(trial="{}"),
    "a name that leads out": lambda content: content.update(trial=content["trial"].replace('"r"', '"../../r"', 1)),
    "a huge canvas": lambda content: content.update(trial=content["trial"].replace("[28,28]", "[99999,99999]", 1)),
    "many epochs": lambda content: content.update(epoch=10**9),
    "a loss that is none": lambda content: content["step_losses"].append("much"),
    "weights of another shape": lambda content: put(content, "network", lambda tensor: tensor[:1]),
    "averages that are not finite": lambda content: put(content, "average", lambda tensor: tensor * float("nan")),
    "averages of another shape": lambda content: put(content, "average", lambda tensor: tensor[:1]),
    "averages of another type": lambda content: put(content, "average", lambda tensor: tensor.double()),
    "averages that are none": lambda content: put(content, "average", lambda tensor: "weights"),
    "averages that are sparse": lambda content: put(content, "average", lambda tensor: tensor.to_sparse()),
    "averages too few": lambda content: content["average"].pop(first(content["average"])),
    "averages too many": lambda content: content["average"].update(more=torch.zeros(3)),
    "no average": lambda content: content.update(average=None),
    "an optimizer that is none": lambda content: content.update(optimizer=3),
    "a momentum of another shape": lambda content: remember(
        content, lambda entry: {**entry, "exp_avg": torch.zeros(1).expand(10**12)}
    ),
    "a momentum that is missing": lambda content: remember(content, lambda entry: {"step": entry["step"]}),
    "a rate that is no number": lambda content: content["optimizer"]["param_groups"][0].update(lr=float("nan")),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_checkpoint_is_data_and_fits_its_trial_or_is_refused(trained, stn, contents, attack):
    honest = stn("eval", str(CHECKPOINT))
    content = torch.load(CHECKPOINT, weights_only=True)
    attack(content)
    save(content)
    before = contents(Path())
    evaluated = stn("eval", str(CHECKPOINT))
    if evaluated != honest:  # which reads no optimizer, and of the weights the averaged ones
        assert evaluated.sentence.startswith(f"{CHECKPOINT} ")
        assert len(evaluated.sentence) < 600
    assert contents(Path()) == before
    (TRIAL / "result.json").unlink()
    assert str(TRIAL) in stn(*RUN).sentence
    assert not Path("was_run").exists()


# --- files of other programs ------------------------------------------------------------------------------------


def saved(save: Callable[[Any, io.BytesIO], None], value: object) -> bytes:
    file = io.BytesIO()
    save(value, file)
    return file.getvalue()


NETWORK = torch.nn.Linear(3, 2)
OTHERS = {
    "weights.pt": saved(torch.save, NETWORK.state_dict()),
    "network.pth": saved(torch.save, NETWORK),
    "training.ckpt": saved(torch.save, {"format": "mine", "epoch": 3, "network": NETWORK.state_dict()}),
    "half.pt": saved(torch.save, NETWORK.state_dict())[:500],
    "old.pkl": pickle.dumps([1, 2]),
    "result.json": b'{"accuracy": 99.1}',
    "arrays.npz": saved(lambda value, file: np.savez(file, value), np.zeros(3)),
    "nothing": b"",
}


@pytest.mark.parametrize("command", ["eval", "visualize", "report", "status", "robustness", "compare"])
def test_a_file_of_another_program_is_named_and_stays(trained, stn, contents, command):
    for name, content in OTHERS.items():
        Path(name).write_bytes(content)
    before = contents(Path())
    wanted = "a checkpoint of stn-train" if command in ("eval", "visualize") else "a run's folder"
    for name in OTHERS:
        sentence = stn(command, *([trained] if command == "compare" else []), name).sentence
        assert sentence.startswith(f"{name} is not {wanted}")
        assert "; name a run's folder" in sentence
        assert "delete" not in sentence
    assert contents(Path()) == before


def test_in_a_folder_of_another_program_nothing_is_to_be_deleted_either(stn):
    Path("theirs/run").mkdir(parents=True)
    for name in ("checkpoint.pt", "result.json"):
        Path("theirs/run", name).write_bytes(OTHERS["weights.pt"])
    for command in ("eval", "visualize"):
        sentence = stn(command, "theirs").sentence
        assert sentence.startswith("theirs/run/checkpoint.pt is not a checkpoint of stn-train")
        assert "delete" not in sentence


# --- arrays and records -----------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def declared(shape: str, dtype: str = "<i8") -> bytes:
    """An array of which there is only the header."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "member",
    [
        npy(np.array([Call(os.mkdir, "was_run")], dtype=object)),
        declared("(1000000000000,)"),
        declared("(120,)", "O"),
        b"no array",
    ],
    ids=["code", "huge", "objects", "words"],
)
def test_an_array_is_plain_data_of_the_size_that_it_says(trained, stn, member):
    predictions = TRIAL / "predictions.npz"
    write_archive(predictions, {f"{name}.npy": member for name in ("predicted", "label", "digit")})
    assert stn("report", "runs/small").sentence.startswith(f"{predictions} is damaged: ")
    assert not Path("was_run").exists()


def test_names_inside_an_archive_make_no_files(trained, stn, contents):
    before = contents(Path()).keys()
    write_archive(TRIAL / "predictions.npz", {"../../../../../evil.npy": npy(np.zeros(3)), "/evil": b"evil"})
    assert stn("report", "runs/small").sentence.startswith(f"{TRIAL / 'predictions.npz'} is damaged")
    assert contents(Path()).keys() == before


# --- built variants ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("test/images.npy", lambda array: array[:, :14]),
        ("test/images.npy", lambda array: array.astype(float)),
        ("test/images.npy", lambda array: array[:5]),
        ("train/digits.npy", lambda array: array[:3]),
        ("train/images.npy", lambda array: np.array([Call(os.mkdir, "was_run")], dtype=object)),
        ("train/images.npy", lambda array: declared("(1000000000000, 28, 28)", "|u1")),
    ],
)
def test_a_built_variant_has_to_be_what_its_specification_says(stn, name, make):
    assert stn("data", "build", "--config", "small.yaml", "--output-dir", "built").code == 0
    made = make(np.load(Path("built/r", name)))
    Path("built/r", name).write_bytes(made if isinstance(made, bytes) else npy(made))
    _sign_again(lambda manifest: None)
    assert stn(*RUN, "--set", "prebuilt=built").sentence.startswith("built/r is damaged: ")
    assert not Path("was_run").exists()


def test_a_manifest_names_no_files_elsewhere(stn):
    assert stn("data", "build", "--config", "small.yaml", "--output-dir", "built").code == 0
    _sign_again(lambda manifest: manifest["files"].update({"../../small.yaml": "0"}))
    sentence = stn(*RUN, "--set", "prebuilt=built").sentence
    assert sentence.startswith("built/r/manifest.json is damaged: it names other files than those of a dataset")


def _sign_again(change: Callable[[dict[str, Any]], object]) -> None:
    """Give what is built the checksums that it has."""
    path = Path("built/r/manifest.json")
    manifest = json.loads(path.read_bytes())
    del manifest["sha256"]
    from stn_train.storage import sha256

    manifest["files"] = {name: sha256(path.parent / name) for name in manifest["files"]}
    change(manifest)
    storage.write_record(path, manifest)


# --- places -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["trials", "trials/r", "trials/r/st_cnn/seed-0", "figures"])
@pytest.mark.parametrize("command", [RUN, ("report", "runs/small"), ("robustness", "runs/small")])
def test_a_link_below_a_runs_folder_leads_nowhere(trained, stn, contents, below, command):
    Path(trained, below).rename("elsewhere")
    Path(trained, below).symlink_to(Path("elsewhere").absolute())
    before = contents(Path("elsewhere"))
    assert stn(*command).sentence.startswith(f"{trained}/{below} is a link, which leads out of {trained}")
    assert contents(Path("elsewhere")) == before


def test_a_link_within_a_runs_folder_does_no_harm(trained, stn):
    Path(trained, "latest").symlink_to("trials/r")
    assert stn("report", "runs/small").code == 0


@pytest.mark.parametrize("key", ["name", "datasets=[{{name: {}}}]", "models=[{{name: {}, classifier: cnn}}]"])
def test_no_name_makes_a_path(stn, key):
    for name in map(json.dumps, ("../up", "/tmp/up", "..", "a\\b", "")):
        change = f"name={name}" if key == "name" else key.format(name)
        assert "name: " in stn(*RUN, "--set", change).sentence
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("result.json", lambda record: record.update(images=0)),
        ("result.json", lambda record: record.update(parameters=10**400)),
        ("result.json", lambda record: record.update(confusion=[[1, 2], [3]])),
        ("result.json", lambda record: record["trial"]["dataset"].update(name="../../up")),
        ("timing.json", lambda record: record.update(seconds=float("nan"))),
        ("alignment.json", lambda record: record.update(pose=3)),
    ],
)
def test_a_record_adds_up_or_is_refused(trained, stn, name, change):
    record = json.loads((TRIAL / name).read_bytes())
    del record["sha256"]
    change(record)
    (TRIAL / name).write_bytes(storage.with_checksum(json.dumps(record, indent=0).encode(), storage.JSON))
    assert stn("report", "runs/small").sentence.startswith(f"{TRIAL / name} is damaged: ")


@pytest.mark.parametrize(
    ("name", "array", "make"),
    [
        ("predictions.npz", "predicted", lambda array: array - 100),
        ("predictions.npz", "digit", lambda array: array.astype(float)),
        ("predictions.npz", "theta", lambda array: array[:7]),
        ("examples.npz", "kind", lambda array: array + 9),
        ("examples.npz", "outline", lambda array: array * np.nan),
        ("rotation_sweep.npz", "image", lambda array: array[:, 0]),
        ("training.npz", "predicted", lambda array: array[:, :2]),
        ("means.npz", "more", lambda array: np.zeros(3)),
    ],
)
def test_arrays_of_another_shape_or_range_are_refused(trained, stn, name, array, make):
    with np.load(TRIAL / name) as file:
        arrays = dict(file)
    arrays[array] = make(arrays.get(array))
    storage.write_arrays(TRIAL / name, arrays)
    assert stn("report", "runs/small").sentence.startswith(f"{TRIAL / name} is damaged: ")

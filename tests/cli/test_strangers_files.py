"""Files that somebody made to do harm: exit code 2, one sentence, nothing run and nothing written elsewhere."""

import gzip
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


def write_archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    """An archive whose seal is sound: who makes a file can make that, too."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    storage.write_archive(path, file.getvalue())


def save(content: object, path: Path = CHECKPOINT) -> None:
    file = io.BytesIO()
    torch.save(content, file)
    storage.write_archive(path, file.getvalue())


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
    "code in a look": lambda content: content["epoch_logs"].append(Call(os.system, "mkdir was_run")),
    "much memory": lambda content: content.update(network=Call(bytearray, 10**15)),
    "more memory than there is": lambda content: content.update(network=Call(bytearray, 10**30)),
    "another format": lambda content: content.update(format=99),
    "a key too few": lambda content: content.pop("epoch_logs"),
    "no trial": lambda content: content.update(trial="{}"),
    "a trial that is no text": lambda content: content.update(trial=torch.zeros(3)),
    "a name that leads out": lambda content: content.update(trial=content["trial"].replace('"r"', '"../../r"', 1)),
    "a huge canvas": lambda content: content.update(trial=content["trial"].replace("[28,28]", "[99999,99999]", 1)),
    "many epochs": lambda content: content.update(epoch=10**9),
    "epochs below none": lambda content: content.update(epoch=-1),
    "epochs in words": lambda content: content.update(epoch="two"),
    "seconds that are no number": lambda content: content.update(seconds=float("nan")),
    "a loss that is infinite": lambda content: content["losses"].__setitem__(0, float("inf")),
    "losses of no epoch": lambda content: content["losses"].append(1.0),
    "a loss that is a tensor": lambda content: content["losses"].__setitem__(0, torch.zeros(3)),
    "losses that are none": lambda content: content.update(step_losses=None),
    "an error of more than all": lambda content: content["epoch_logs"][0].update(error=101.0),
    "a look without health": lambda content: content["epoch_logs"][0].pop("transformers"),
    "health of nothing known": lambda content: content["epoch_logs"][0].update(transformers=[{"a": 1.0}]),
    "weights that are not finite": lambda content: put(content, "network", lambda tensor: tensor * float("nan")),
    "weights of another shape": lambda content: put(content, "network", lambda tensor: tensor[:1]),
    "weights of another type": lambda content: put(content, "network", lambda tensor: tensor.double()),
    "weights that are none": lambda content: put(content, "network", lambda tensor: "weights"),
    "weights that are sparse": lambda content: put(content, "network", lambda tensor: tensor.to_sparse()),
    "weights of no device": lambda content: put(content, "network", lambda tensor: tensor.to("meta")),
    "weights too few": lambda content: content["network"].pop(first(content["network"])),
    "weights too many": lambda content: content["network"].update(more=torch.zeros(3)),
    "a network that is a list": lambda content: content.update(network=[1, 2]),
    "an average that is not finite": lambda content: put(content, "average", lambda tensor: tensor / 0),
    "no average": lambda content: content.update(average=None),
    "an optimizer that is none": lambda content: content.update(optimizer=3),
    "an optimizer of other parameters": lambda content: content["optimizer"]["state"].update({10**6: {}}),
    "a momentum of another shape": lambda content: remember(
        content, lambda entry: {**entry, "exp_avg": torch.zeros(1).expand(10**12)}
    ),
    "a momentum that is not finite": lambda content: remember(
        content, lambda entry: {**entry, "exp_avg": entry["exp_avg"] + float("inf")}
    ),
    "a momentum that is missing": lambda content: remember(content, lambda entry: {"step": entry["step"]}),
    "a rate that is no number": lambda content: content["optimizer"]["param_groups"][0].update(lr=float("nan")),
    "no rates": lambda content: content["optimizer"].update(param_groups=[]),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_checkpoint_is_data_and_fits_its_trial_or_is_refused(trained, stn, contents, attack):
    content = torch.load(CHECKPOINT, weights_only=True)
    attack(content)
    save(content)
    before = contents(Path())
    evaluated = stn("eval", str(CHECKPOINT)).sentence
    assert evaluated.startswith(f"{CHECKPOINT} ")
    assert len(evaluated) < 600
    assert contents(Path()) == before
    (TRIAL / "result.json").unlink()
    assert str(TRIAL) in stn(*RUN).sentence
    assert not Path("was_run").exists()


@pytest.mark.parametrize(
    "seen",
    [
        {},
        {"output": torch.zeros(10, 1, 28, 28)},
        lambda seen: {**seen, "more": torch.zeros(3)},
        lambda seen: {**seen, "predicted": seen["predicted"][:1]},
        lambda seen: {**seen, "outline": seen["outline"] * float("nan")},
        lambda seen: {**seen, "output": torch.zeros(1, dtype=torch.uint8).expand(10**9)},
    ],
)
def test_what_a_training_is_drawn_from_has_to_be_of_its_network(trained, stn, seen):
    content = torch.load(CHECKPOINT, weights_only=True)
    content["epoch_logs"][0]["seen"] = seen(content["epoch_logs"][0]["seen"]) if callable(seen) else seen
    save(content)
    (TRIAL / "result.json").unlink()
    for command in (RUN, ("visualize", str(TRIAL), "--only", "training")):
        assert stn(*command).sentence.startswith(f"{CHECKPOINT} is damaged: of what its training is drawn from, ")


@pytest.mark.parametrize("name", [CHECKPOINT, TRIAL / "predictions.npz"])
def test_an_archive_that_declares_more_than_it_has_is_not_unpacked(trained, stn, name):
    write_archive(name, {"a.npy": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert name.stat().st_size < 100_000
    command = ("eval", str(TRIAL)) if name == CHECKPOINT else ("report", "runs/small")
    assert stn(*command).sentence.startswith(f"{name} is ")


@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "result.json", "metrics.jsonl", "timing.json", "alignment.json", "predictions.npz"]
)
def test_a_file_that_is_too_large_or_none_is_not_read(trained, stn, name):
    path = TRIAL / name
    command = ("eval", str(TRIAL)) if name == "checkpoint.pt" else ("report", "runs/small")
    with path.open("r+b") as file:
        file.truncate(10**13)  # takes no room on the disk
    assert stn(*command).sentence.startswith(f"{path} cannot be read: it has 10,000,000,000,000 bytes, and at most ")
    path.unlink()
    os.mkfifo(path)
    assert stn(*command).sentence.startswith(f"{path} cannot be read: it is a pipe or a device")


# --- files of other programs ------------------------------------------------------------------------------------


def saved(save: Callable[[Any, io.BytesIO], None], value: object) -> bytes:
    file = io.BytesIO()
    save(value, file)
    return file.getvalue()


NETWORK = torch.nn.Linear(3, 2)
NOT_OURS = "a PyTorch file, which `stn-train eval` and `stn-train visualize` read if `stn-train run` wrote it"
OTHERS = {
    "weights.pt": (saved(torch.save, NETWORK.state_dict()), NOT_OURS),
    "network.pth": (saved(torch.save, NETWORK), NOT_OURS),
    "training.ckpt": (saved(torch.save, {"format": "mine", "epoch": 3, "network": NETWORK.state_dict()}), NOT_OURS),
    "half.pt": (saved(torch.save, NETWORK.state_dict())[:500], "an archive, which no command reads"),
    "net.safetensors": (b"\x08" + bytes(7) + b'{"a": 1}', "a safetensors file, which no command reads"),
    "old.pkl": (pickle.dumps([1, 2]), "a Python pickle, which no command reads"),
    "cat.png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG picture, which no command reads"),
    "cat.jpg": (b"\xff\xd8\xff\xe0" + bytes(50), "a JPEG picture, which no command reads"),
    "result.json": (b'{"accuracy": 99.1}', "JSON, which `stn-train run --config` reads if it is a configuration"),
    "arrays.npz": (
        saved(lambda value, file: np.savez(file, value), np.zeros(3)),
        "an archive of NumPy's, which no command",
    ),
    "train-images-idx3-ubyte.gz": (gzip.compress(b"words"), "a gzip file, which no command reads"),
    "mine.yaml": (b"datasets: [r]  # h\xc3\xa4user" * 100, "text, which `stn-train run --config` reads if it is a"),
    "noise.bin": (bytes(range(256)), "of a kind that no command reads"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("command", ["eval", "visualize", "report", "status", "robustness", "compare"])
def test_a_file_of_another_program_is_called_what_it_is_and_stays(trained, stn, contents, command):
    for name, (content, _) in OTHERS.items():
        Path(name).write_bytes(content)
    before = contents(Path())
    wanted = "a checkpoint of stn-train" if command in ("eval", "visualize") else "a run's folder"
    for name, (_, words) in OTHERS.items():
        sentence = stn(command, *([trained] if command == "compare" else []), name).sentence
        assert sentence.startswith(f"{name} is not {wanted} but {words}")
        assert "; name a run's folder" in sentence
        assert "delete" not in sentence
    assert contents(Path()) == before


def test_in_a_folder_of_another_program_nothing_is_to_be_deleted_either(stn):
    Path("theirs/run").mkdir(parents=True)
    for name in ("checkpoint.pt", "result.json"):
        Path("theirs/run", name).write_bytes(OTHERS["weights.pt"][0])
    for command in ("eval", "visualize"):
        sentence = stn(command, "theirs").sentence
        assert sentence.startswith(f"theirs/run/checkpoint.pt is not a checkpoint of stn-train but {NOT_OURS}; name ")
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
        declared("(-1,)"),
        declared("(120,)", "O"),
        b"no array",
        b"",
    ],
    ids=["code", "huge", "below nothing", "objects", "words", "nothing"],
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
    assert sentence.startswith("built/r/manifest.json is damaged: it names other files than those of a variant")


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


@pytest.mark.parametrize("name", ["../up", "/tmp/up", "a/b", "..", "CON", "nul.txt", "a.", "", "a\\b"])
@pytest.mark.parametrize("key", ["name", "datasets=[{{name: {}}}]", "models=[{{name: {}, classifier: cnn}}]"])
def test_no_name_makes_a_path(stn, name, key):
    written = json.dumps(name)
    change = f"name={written}" if key == "name" else key.format(written)
    assert "name: " in stn(*RUN, "--set", change).sentence
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("size", [0, 5, 10**13])
def test_digits_of_another_size_are_not_read(stn, size):
    raw = Path("digits/MNIST/raw")
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        with (raw / f"{name}-ubyte").open("wb") as file:
            file.truncate(size)
    sentence = stn(*RUN, "--set", "source=mnist", "--data-root", "digits").sentence
    found = size if size < 100 else "over 47040016"
    assert sentence.startswith(
        f"digits/MNIST/raw/train-images-idx3-ubyte is damaged: it has {found} bytes, not 47040016"
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("result.json", lambda record: record.update(images=0)),
        ("result.json", lambda record: record.update(errors=-1)),
        ("result.json", lambda record: record.update(parameters=10**400)),
        ("result.json", lambda record: record.update(confusion=[[1, 2], [3]])),
        ("result.json", lambda record: record["trial"].update(seed=10**20)),
        ("result.json", lambda record: record["trial"]["dataset"].update(name="../../up")),
        ("timing.json", lambda record: record.update(seconds=float("nan"))),
        ("alignment.json", lambda record: record.update(pose=3)),
    ],
)
def test_a_record_adds_up_or_is_refused(trained, stn, name, change):
    record = json.loads((TRIAL / name).read_bytes())
    del record["sha256"]
    change(record)
    (TRIAL / name).write_bytes(storage.with_checksum(json.dumps(record).removesuffix("}").encode(), storage.JSON))
    assert stn("report", "runs/small").sentence.startswith(f"{TRIAL / name} is damaged: ")


@pytest.mark.parametrize(
    ("name", "array", "make"),
    [
        ("predictions.npz", "predicted", lambda array: array - 100),
        ("predictions.npz", "label", lambda array: array + 100),
        ("predictions.npz", "digit", lambda array: -array - 1),
        ("predictions.npz", "digit", lambda array: array.astype(float)),
        ("predictions.npz", "theta", lambda array: array[:7]),
        ("examples.npz", "kind", lambda array: array + 9),
        ("examples.npz", "outline", lambda array: array * np.nan),
        ("rotation_sweep.npz", "image", lambda array: array[:, 0]),
        ("training.npz", "predicted", lambda array: array[:, :2]),
        ("means.npz", "output", lambda array: array[:0]),
        ("means.npz", "more", lambda array: np.zeros(3)),
    ],
)
def test_arrays_of_another_shape_or_range_are_refused(trained, stn, name, array, make):
    with np.load(TRIAL / name) as file:
        arrays = dict(file)
    arrays[array] = make(arrays.get(array))
    storage.write_arrays(TRIAL / name, arrays)
    assert stn("report", "runs/small").sentence.startswith(f"{TRIAL / name} is damaged: ")

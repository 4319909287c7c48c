"""`stn-train export`: a file that other programs read, and that classifies as the network does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stn_train import load_network
from stn_train.data.datasets import make_fixed_dataset
from stn_train.specs import DatasetSpec

for package in ("onnxruntime", "onnxscript", "safetensors"):
    pytest.importorskip(package)

TRIAL = "runs/small/trials/r/st_cnn"
ALONE = """
import json, sys
import numpy as np
import pytest
import onnxruntime

session = onnxruntime.InferenceSession("st_cnn.onnx")
(images,) = np.load("images.npz").values()
logits, theta, warped = session.run(["logits", "theta", "warped"], {"images": images.astype(np.float32) / 255})
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
print(*(classes[index] for index in logits.argmax(axis=1)))
assert not {"torch", "stn_train"} & set(sys.modules)
"""


def test_a_fresh_process_with_numpy_and_onnxruntime_alone_gives_the_same_classes(trained, stn, real_digits):
    ended = stn("export", TRIAL)
    assert ended.code == 0, ended
    assert "st_cnn.onnx" in ended.out
    digits = real_digits[1].subset(torch.arange(min(1000, len(real_digits[1].labels))))
    images = make_fixed_dataset(DatasetSpec.model_validate("r"), digits, "test")[0].images
    np.savez("images.npz", images=images.numpy())
    alone = subprocess.run([sys.executable, "-I", "-c", ALONE], capture_output=True, text=True, check=True)
    with torch.no_grad():
        predicted = load_network(f"{TRIAL}/seed-0/checkpoint.pt")(images.float() / 255).argmax(dim=1)
    assert [*map(int, alone.stdout.split())] == predicted.tolist()
    assert len(predicted.unique()) > 5


def test_weights_alone_make_the_network_again(trained, stn):
    from safetensors import safe_open

    import stn_train as st

    assert stn("export", TRIAL, "-o", "weights/it.safetensors").code == 0
    with safe_open("weights/it.safetensors", "pt") as file:
        said = {key: json.loads(value) for key, value in file.metadata().items()}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    trial = said["trial"]
    network = st.build_model(trial["model"], trial["dataset"]["canvas"], parameters=trial["parameters"]).eval()
    network.load_state_dict(weights)
    images = torch.rand(3, 1, 28, 28)  # in another layout, and so rounded otherwise, than what was loaded
    torch.testing.assert_close(network(images), load_network(f"{TRIAL}/seed-0/checkpoint.pt")(images))


def test_mistakes_are_told(trained, stn, monkeypatch):
    assert "one of them" in stn("export", "runs/small").sentence
    for line in (("export", TRIAL, "-o", "it.tflite"), ("export", TRIAL, "-o", "")):
        assert ".onnx" in stn(*line).err or "empty path" in stn(*line).err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    sentence = stn("export", TRIAL).sentence
    assert "onnxscript" in sentence
    assert "stn-train[export]" in sentence
    assert not list(Path().glob("*.onnx"))
    Path(TRIAL, "seed-0", "checkpoint.pt").unlink()
    assert stn("export", TRIAL).sentence.startswith(
        f"{TRIAL}/seed-0/checkpoint.pt is missing; delete {TRIAL}/seed-0/result"
    )

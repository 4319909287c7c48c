"""The demo's page in a real browser: it computes what torch computes, and hands, fingers and keys move the digit."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stn_train.data.sources import Digits
from stn_train.evaluation.classify import recorded_warps
from stn_train.geometry import AFFINE, bilinear_sampler
from stn_train.models.network import Network, build_model
from stn_train.models.transformer import ThetaHead
from stn_train.report.demo import Shown, demo_page
from stn_train.specs import DATASETS, MODELS, ExperimentSpec, trials_of

IMAGES = 100
CLOSE = 1e-4

CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "conv_paper": ("rts", {"base": "st_cnn", "transformer": {"localisation": "conv_paper", "supersampling": 2}}),
    "keypoints": ("tc", {"base": "st_cnn_projective", "transformer": {"localisation": "keypoints"}}),
    "fc_paper": ("rts", {"base": "st_cnn_tps", "transformer": {"localisation": "fc_paper", "control_points": 6}}),
    "equivariant": ("r", {"base": "st_cnn_paper_equivariant", "transformer": {"coordinates": False}}),
    "coordinates": ("rts", {"base": "st_cnn", "transformer": {"coordinates": True, "output_size": [16, 20]}}),
    "two in a row": ("rts", {"base": "st_cnn", "transformer": {"before": [0, 0]}}),
    "inside": ("rts", {"base": "st_cnn_similarity", "transformer": {"before": [0, 2]}}),
    "two side by side": ("addition", {"base": "st_cnn", "transformer": {"parallel": 2}}),
    "frozen": ("rts", {"base": "st_cnn", "transformer": {"pose": "identity"}}),
    "wide canvas": ({"name": "wide", "canvas": [28, 40], "rotation": 45}, {"base": "st_cnn_similarity"}),
    "wide canvas, bent": ({"name": "wide", "canvas": [40, 28], "rotation": 45}, {"base": "st_cnn_tps"}),
}
"""By name, a dataset and a model: what is put together out of all kinds of layers."""
PRESETS = {name: ("rts", {"base": name}) for name in MODELS}
"""Every family with every classifier."""


def untrained(dataset: Any, model: dict[str, Any], parameters: int = 120_000) -> Shown:
    """A network whose weights are random, of about the size of trained ones, also those of theta and of averages."""
    name = {"name": "some", **model}
    spec = ExperimentSpec.model_validate({"name": "e", "parameters": parameters, "source": "digits", "datasets": [dataset], "models": [name]})
    (trial,) = trials_of(spec)
    torch.manual_seed(0)
    of = trial.dataset
    network = build_model(trial.model, of.canvas, trial.parameters, of.channels, of.classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(-1.5, 1.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, ThetaHead):
            nn.init.normal_(module.weight, std=0.3 / module.in_features**0.5)
            nn.init.normal_(module.bias, std=0.1)
    return Shown(trial, network.eval())


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium without a window, driven by Debian's chromium-driver or another on the path."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver, program = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or program is None:
        pytest.skip("there is no Chromium here with its driver, which apt calls chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(option)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def few_images(shown: Shown, digits: Digits) -> Tensor:
    from stn_train.data.datasets import make_fixed_dataset

    return make_fixed_dataset(shown.trial.dataset, digits.subset(torch.arange(IMAGES)), "test")[0].images


@pytest.mark.parametrize("name", [*CELLS, *(pytest.param(name, marks=pytest.mark.slow) for name in PRESETS)])
def test_page_computes_logits_and_theta_as_torch_does(browser, tmp_path, real_digits, name):
    shown = untrained(*(CELLS | PRESETS)[name])
    (tmp_path / "demo.html").write_text(demo_page([shown], real_digits[1], "demo"))
    browser.get((tmp_path / "demo.html").as_uri())
    images = few_images(shown, real_digits[1])
    with torch.no_grad(), recorded_warps(shown.network) as warps:
        logits = shown.network(images.float() / 255)
    given = base64.b64encode(images.numpy().tobytes()).decode()
    found = browser.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
        const size = DATASET.channels * HEIGHT * WIDTH, found = [];
        for (let start = 0; start < bytes.length; start += size) {
          const data = Float32Array.from(bytes.subarray(start, start + size), (value) => value / 255);
          const { logits, warps } = answer(MODELS[0], newMap(DATASET.channels, HEIGHT, WIDTH, data), truePose());
          found.push({ logits: Array.from(logits), thetas: warps.map((warp) => Array.from(warp.theta)) });
        }
        return JSON.stringify(found);
        """,
        given,
    )
    answers = json.loads(found)
    assert len(answers) == IMAGES
    np.testing.assert_allclose([one["logits"] for one in answers], logits, rtol=0, atol=CLOSE)
    for number, warp in enumerate(warps):
        np.testing.assert_allclose([one["thetas"][number] for one in answers], warp.theta, rtol=0, atol=CLOSE)
    assert len(warps) == len(answers[0]["thetas"])

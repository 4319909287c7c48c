"""The demo's page in a real browser: it computes what torch computes, and hands, fingers and keys move the digit."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from stn_train.data.datasets import make_fixed_dataset
from stn_train.data.images import ImageSet
from stn_train.errors import UserError
from stn_train.evaluation.classify import recorded_warps
from stn_train.geometry import AFFINE, bilinear_sampler
from stn_train.models.network import build_model
from stn_train.models.transformer import ThetaHead
from stn_train.report.demo import Shown, demo_page
from stn_train.specs import MODELS, ExperimentSpec, trials_of
from stn_train.specs.models import Family

IMAGES = 100
CLOSE = 1e-4

CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "conv_paper": ("rts", {"base": "st_cnn", "transformer": {"localisation": "conv_paper", "supersampling": 2}}),
    "keypoints": ("r", {"base": "st_cnn_projective", "transformer": {"localisation": "keypoints"}}),
    "fc_paper": ("rts", {"base": "st_cnn_tps", "transformer": {"localisation": "fc_paper", "control_points": 6}}),
    "equivariant": ("r", {"base": "st_cnn_paper_equivariant", "transformer": {"coordinates": False}}),
    "rotates": ("r", {"base": "st_cnn_equivariant", "transformer": {"family": "rotation"}}),
    "coordinates": ("rts", {"base": "st_cnn", "transformer": {"coordinates": True, "output_size": [16, 20]}}),
    "canonical coordinates": (
        {"name": "wide", "canvas": [28, 40], "rotation": 45},
        {"base": "st_cnn_similarity", "transformer": {"coordinates": "canonical", "output_size": [16, 20]}},
    ),
    "two in a row": ("rts", {"base": "st_cnn", "transformer": {"before": [0, 0]}}),
    "inside": ("rts", {"base": "st_cnn_similarity", "transformer": {"before": [0, 2]}}),
    "two side by side": ("addition", {"base": "st_cnn", "transformer": {"parallel": 2}}),
    "frozen": ("rts", {"base": "st_cnn", "transformer": {"pose": "identity"}}),
    "wide canvas": ({"name": "wide", "canvas": [28, 40], "rotation": 45}, {"base": "st_cnn_similarity"}),
    "wide canvas, bent": ({"name": "wide", "canvas": [40, 28], "rotation": 45}, {"base": "st_cnn_tps"}),
}
"""By name, a dataset and a model: what is put together out of all kinds of layers."""
QUICK = ("fcn", "keypoints", "fc_paper", "equivariant")
LEFT_OUT = ("group_cnn", "ti_pooling", "polar_cnn", "vit", "st_cnn_moments", "st_cnn_paper_moments", "st_fcn_moments")
PRESETS = {name: ("rts", {"base": name}) for name in MODELS if name not in LEFT_OUT}
"""Every family with every classifier that the page computes."""
OTHERS = [name for name in CELLS | PRESETS if name not in QUICK]


def untrained(dataset: Any, model: dict[str, Any], parameters: int = 120_000) -> Shown:
    """A network whose weights are random, of about the size of trained ones, also those of theta and of averages."""
    one = {"datasets": [dataset], "models": [{"name": "some", **model}], "parameters": parameters}
    spec = ExperimentSpec.model_validate({"name": "e", "source": "digits", **one})
    (trial,) = trials_of(spec)
    torch.manual_seed(0)
    of = trial.dataset
    network = build_model(trial.model, of.canvas, trial.parameters, trial.channels, trial.classes)
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


def few(digits: tuple[ImageSet, ImageSet]) -> ImageSet:
    """The first test digits, once each."""
    return replace(digits[1].subset(torch.arange(IMAGES)), repeats=1)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_page_computes_logits_and_theta_as_torch_does(browser, tmp_path, real_digits, name):
    shown = untrained(*(CELLS | PRESETS)[name])
    (tmp_path / "demo.html").write_text(demo_page([shown], few(real_digits)))
    browser.get((tmp_path / "demo.html").as_uri())
    images = make_fixed_dataset(shown.trial.dataset, few(real_digits), "test")[0].images
    with torch.no_grad(), recorded_warps(shown.network) as warps:
        logits = shown.network(images.float() / 255)
    given = base64.b64encode(images.numpy().tobytes()).decode()
    found = browser.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
        const channels = now.image.channels, size = channels * HEIGHT * WIDTH, found = [];
        for (let start = 0; start < bytes.length; start += size) {
          const data = Float32Array.from(bytes.subarray(start, start + size), (value) => value / 255);
          const { logits, warps } = answer(MODELS[0], newMap(channels, HEIGHT, WIDTH, data), truePose());
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


# --- hands, fingers and keys ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_path(tmp_path_factory, real_digits) -> Path:
    """The page of a classifier without a transformer and of one behind two side by side."""
    models = ({"name": "plain", "base": "fcn"}, {"name": "seeing", "base": "st_fcn"})
    path = tmp_path_factory.mktemp("demo") / "demo.html"
    path.write_text(demo_page([untrained("rts", model) for model in models], few(real_digits)))
    return path


@pytest.fixture
def page(browser, page_path) -> Any:
    """The browser, at the page as it is when it is opened."""
    browser.get(page_path.as_uri())
    return browser


def settled(page: Any, what: str) -> Any:
    """The value of an expression of the page's, two frames from now."""
    script = "const end = arguments[0], two = () => requestAnimationFrame(() => end(JSON.stringify(WHAT)));"
    return json.loads(page.execute_async_script(f"{script.replace('WHAT', what)} requestAnimationFrame(two)"))


POSE = "figure().pose"
THETA = "Array.from(now.answers[1].warps[0].theta)"


def test_a_pointer_drags_turns_and_scales_the_digit_and_theta_follows(page):
    from selenium.webdriver import ActionChains

    canvas = page.find_element("id", "image")
    pixel = canvas.size["width"] / settled(page, "WIDTH * (1 + 2 * MARGIN)")
    before, theta = settled(page, POSE), settled(page, THETA)
    ActionChains(page).click_and_hold(canvas).move_by_offset(round(5 * pixel), round(-3 * pixel)).release().perform()
    after = settled(page, POSE)
    assert after["x"] - before["x"] == pytest.approx(5, abs=0.1)
    assert after["y"] - before["y"] == pytest.approx(-3, abs=0.1)
    assert settled(page, THETA) != theta, "the network sees what has been dragged"

    turn, scale, middle = (np.array(settled(page, f"handles().{name}")) for name in ("turn", "scale", "middle"))
    half = np.array([canvas.size["width"], canvas.size["height"]]) / 2
    across = np.array([middle[1] - turn[1], turn[0] - middle[0]])  # a quarter of a turn on, clockwise
    for start, end in ((turn, middle + across), (scale, middle + 1.2 * (scale - middle))):
        held = ActionChains(page).move_to_element_with_offset(canvas, *map(round, start - half)).click_and_hold()
        held.move_to_element_with_offset(canvas, *map(round, end - half)).release().perform()
        if start is turn:
            assert settled(page, POSE)["rotation"] - after["rotation"] == pytest.approx(90, abs=2)
            scale = np.array(settled(page, "handles().scale"))
    assert settled(page, POSE) != after


def test_wheel_and_keys_do_what_the_pointer_does(page):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    canvas = page.find_element("id", "image")
    before = settled(page, POSE)
    ActionChains(page).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, -100).perform()
    wheeled = settled(page, POSE)
    assert wheeled["scale"] > before["scale"]
    canvas.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP, "]", "+", ">")
    pressed = settled(page, POSE)
    assert pressed["x"] == pytest.approx(wheeled["x"] + 1)
    assert pressed["y"] == pytest.approx(wheeled["y"] - 1)
    assert pressed["rotation"] == pytest.approx(wheeled["rotation"] + 5)
    assert pressed["scale"] > wheeled["scale"]
    assert pressed["shear"] > wheeled["shear"]


def test_the_image_is_what_geometry_makes_of_the_digit(page, real_digits):
    found = settled(
        page, "({ data: Array.from(now.image.data), matrix: matrixFrom(figure().pose), number: figure().number })"
    )
    linear = np.vstack([np.array(found["matrix"]).reshape(2, 3), [0, 0, 1]])
    to_digit = np.diag([1 / 14, 1 / 14, 1]) @ np.linalg.inv(linear) @ np.diag([21, 21, 1])
    theta = torch.tensor(to_digit[:2].reshape(1, 6), dtype=torch.float32)
    labels = real_digits[1].labels
    fours = (labels == 4).nonzero()[:, 0]
    source = real_digits[1].images[fours[0]][None].float() / 255
    expected = bilinear_sampler(source, AFFINE.grid(theta, (42, 42)))
    np.testing.assert_allclose(found["data"], expected.flatten(), atol=1e-5)


def test_a_digit_is_written_and_then_moved_like_any_other(page):
    from selenium.webdriver import ActionChains

    canvas = page.find_element("id", "image")
    page.find_element("id", "draw").click()
    assert settled(page, "now.image.data.some((value) => value > 0)") is False, "a blank canvas to begin with"
    stroke = ActionChains(page).move_to_element_with_offset(canvas, 0, -60).click_and_hold()
    for _ in range(6):
        stroke.move_by_offset(0, 20)
    stroke.release().perform()
    written = settled(page, "({ ink: now.image.data.reduce((a, b) => a + b), pose: figure().pose, label: label() })")
    assert written["ink"] > 10
    assert written["label"] is None
    page.find_element("id", "draw").click()
    canvas.send_keys("]" * 6)
    assert settled(page, POSE)["rotation"] == pytest.approx(30)
    assert settled(page, "now.image.data.reduce((a, b) => a + b)") == pytest.approx(written["ink"], rel=0.05)


def test_clutter_is_seen_by_the_networks(page):
    before = settled(page, "[now.image.data.reduce((a, b) => a + b), Array.from(now.answers[0].logits)]")
    page.find_element("xpath", "//button[text()='among clutter']").click()
    after = settled(page, "[now.image.data.reduce((a, b) => a + b), Array.from(now.answers[0].logits)]")
    assert after[0] > before[0]
    assert after[1] != before[1]


def test_hands_off_the_network_theta_is_ones_own_until_it_is_given_back(page):
    own, pose = settled(page, THETA), settled(page, POSE)
    hands = page.find_element("id", "hands")
    hands.click()
    assert settled(page, THETA) == pytest.approx(own), "it begins where the network had it"
    before = settled(page, "Array.from(now.answers[1].logits)")
    page.find_element("id", "image").send_keys("]" * 4)
    turned = settled(page, "partsOf(nearestAffine(now.answers[1].warps[0].map))")
    page.execute_script("const range = at('window-scale'); range.value = 0.5; range.dispatchEvent(new Event('input'))")
    scaled = settled(page, "partsOf(nearestAffine(now.answers[1].warps[0].map))")
    assert scaled["scale"] == pytest.approx(0.5)
    assert scaled["rotation"] == pytest.approx(turned["rotation"])
    assert settled(page, "Array.from(now.answers[1].logits)") != before
    page.execute_script("const range = at('theta-2'); range.value = 0.25; range.dispatchEvent(new Event('input'))")
    assert settled(page, THETA)[2] == pytest.approx(0.25)
    assert settled(page, POSE) == pose, "the digit stays where it is"
    hands.click()
    assert settled(page, THETA) == pytest.approx(own)


def test_a_window_that_is_set_by_hand_is_as_near_as_its_family_allows(browser, tmp_path, real_digits):
    """Set to where it is, it stays; and moved, theta moves as its family has it."""
    families = get_args(Family)
    models = ({"name": name, "base": "st_fcn" if name == "affine" else f"st_fcn_{name}"} for name in families)
    path = tmp_path / "demo.html"
    path.write_text(demo_page([untrained("rts", model, 60_000) for model in models], few(real_digits)))
    browser.get(path.as_uri())
    found = settled(
        browser,
        """WARPED.map((_, index) => {
            state.chosen = index;
            const warp = chosenWarp(), matrix = nearestAffine(warp.map);
            const theta = [warp.theta, thetaFrom(warp, matrix), thetaFrom(warp, after([1, 0, 3, 0, 1, -2], matrix))];
            return [MODELS[warp.index].name, ...theta.map((numbers) => Array.from(numbers))];
        })""",
    )
    shift = {"translation": (0, 1), "attention": (1, 2), "similarity": (2, 3), "affine": (2, 5), "tps": (0, 1)}
    assert {name for name, *_ in found} == set(families)
    for name, theta, again, moved in found:
        if name != "projective":  # whose nearest affine map is another
            assert again == pytest.approx(theta, abs=1e-6), name
        if name in shift:
            x, y = shift[name]
            assert (moved[x] - theta[x], moved[y] - theta[y]) == pytest.approx((3 / 21, -2 / 21), abs=1e-6), name


def test_the_dial_tells_of_each_angle_who_is_right(page):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 20).until(lambda _: settled(page, "dial.next") == 72)
    for index in range(2):
        right = page.find_elements("css selector", f"#dial [id^=angle-{index}-].right")
        wrong = page.find_elements("css selector", f"#dial [id^=angle-{index}-].wrong")
        assert len(right) + len(wrong) == 72
        assert f"right at {len(right)} of 72" in page.find_elements("css selector", "#counts li")[index].text
    page.find_element("id", "dial").send_keys("\ue014")  # the right arrow
    turned = settled(page, "[figure().pose.rotation, dial.next, verdicts().map((each) => each.right)]")
    assert turned[:2] == [pytest.approx(25), 72], "a turn is on the dial already"
    for index, right in enumerate(turned[2]):
        assert settled(page, f"at('angle-{index}-25').classList.contains('right')") == right


def test_it_is_usable_by_keyboard_and_screen_reader(page):
    assert [each.accessible_name for each in page.find_elements("css selector", "main h1")] == ["Move the digit"]
    touched = page.find_elements(
        "css selector", "main :is(button, input, select, summary, [tabindex], [role]:not([role=status]))"
    )
    shown = [each for each in touched if each.is_displayed()]
    assert len(shown) > 30
    assert [each.get_attribute("outerHTML") for each in shown if not each.accessible_name] == []
    assert settled(page, "at('said').getAttribute('aria-live')") == "polite"
    assert page.find_element("id", "dial").aria_role == "slider"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_shifts_and_nothing_sticks_out(page, page_path, scheme):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        page.get(page_path.as_uri())
        page.execute_script(
            "window.shifts = []; new PerformanceObserver((list) => shifts.push(...list.getEntries().map((one) => "
            "one.value))).observe({ type: 'layout-shift', buffered: true })"
        )
        for change in ("{ turn: 130 }", "{ scale: 0.4 }", "{ x: -12.3, y: 11 }", "{ shear: 0.7 }"):
            settled(page, f"adjust({change}) ?? null")
        settled(page, "(at('hands').click(), null)")
        for text in ("among clutter", "small"):
            page.execute_script(
                f"[...document.querySelectorAll('button')].find((b) => b.textContent === '{text}').click()"
            )
            settled(page, "null")
        settled(page, "(tell(), null)")
        assert page.execute_script("return shifts.reduce((a, b) => a + b, 0)") < 1e-3
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) < 200) == (scheme == "dark")
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# --- without a browser ------------------------------------------------------------------------------------------------


def models_of(page: str) -> list[str]:
    return re.findall(r'{"name": "(\w+)", "front"', page)


def test_a_layer_that_is_not_ours_is_told_in_a_sentence(real_digits):
    ours, mine = (untrained("rts", {"name": name, "base": "fcn"}) for name in ("ours", "mine"))
    mine.network.classifier[2] = nn.GELU()
    page = demo_page([mine, ours], few(real_digits))
    assert models_of(page) == ["ours"]
    assert "mine is not here" in page
    assert "GELU" in page
    with pytest.raises(UserError, match=r"mine.*GELU"):
        demo_page([mine], few(real_digits))


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_model_of_ours_that_the_page_cannot_compute_is_told_in_a_sentence(real_digits, name):
    with pytest.raises(UserError, match=r"some: it has a layer that this page cannot compute"):
        demo_page([untrained("rts", {"base": name})], few(real_digits))


def test_code_of_the_users_that_may_not_be_run_is_told(real_digits):
    ours, mine = (untrained("rts", {"name": name, "base": "fcn"}) for name in ("ours", "mine"))
    page = demo_page([ours, replace(mine, network=None)], few(real_digits))
    assert models_of(page) == ["ours"]
    assert re.search("mine is not here.*--allow-imports", page)


def test_the_pair_comes_first_and_others_while_there_is_room(real_digits, monkeypatch):
    names = {"other": "cnn", "seeing": "st_fcn", "plain": "fcn"}
    shown = [untrained("rts", {"name": name, "base": base}) for name, base in names.items()]
    assert models_of(demo_page(shown, few(real_digits))) == ["plain", "seeing", "other"]
    monkeypatch.setattr("stn_train.report.demo.MOST_BYTES", 10_000)
    small = demo_page(shown, few(real_digits))
    assert models_of(small) == ["plain", "seeing"]
    assert "other is not here" in small

"""Images of one's own from the command line: trained on, reported by name, and noticed when they change."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_train.experiment.runtime import read_config

RUN = ("run", "--config", "mine.yaml", "--threads", "1", "--quiet", "--output-dir", "out")
MINE = """\
source: ./shapes
datasets: [r, plain]
models: [fcn, {name: st, base: st_cnn, classifier: fcn}]
controls: true
training: {epochs: 1, batch_size: 32}
"""


@pytest.fixture
def shapes(stn) -> Path:
    """A folder of small coloured pictures, of three classes with names, and a configuration that trains on them."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("circle of red", "bar", "dot")):
        for number in range(30):
            picture = random.integers(0, 60, (16, 20, 3), np.uint8)
            picture[4 : 8 + 2 * label, 4:12, label] = 255
            path = Path("shapes", name, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    Path("mine.yaml").write_text(MINE)
    return Path("shapes")


@pytest.mark.slow
def test_a_run_on_ones_own_images_reports_names_and_says_what_is_not_known(stn, shapes):
    ended = stn(*RUN)
    assert ended.code == 0, ended.err
    report, found = Path("out/report.md").read_text(), json.loads(Path("out/report.json").read_bytes())
    assert found["source"] == "shapes"
    assert found["class_names"]["r"] == ["bar", "circle of red", "dot"]
    assert "circle of red" in report
    trials = {(row["dataset"], row["model"]) for row in found["trials"]}
    assert trials >= {("r", "st"), ("r", "st-oracle"), ("plain", "st"), ("plain", "st-identity")}
    assert ("plain", "st-oracle") not in trials, "whose true pose is not known"
    assert "true pose is not known" in report
    assert "true pose is not known" in Path("out/report.html").read_text()
    assert Path("out/trials/r/st/seed-0/alignment.json").exists()
    assert not Path("out/trials/plain/st/seed-0/alignment.json").exists()

    assert stn(*RUN, "--set", "source={path: shapes}").code == 0, "the same images, written otherwise: nothing to do"
    asked = stn("eval", "out/trials/r/st/seed-0/checkpoint.pt", "--confusion", "--per-class")
    assert "circle of red" in asked.out
    assert stn("eval", "out/trials/r/fcn/seed-0/checkpoint.pt", "--dataset", "addition").code == 2
    assert stn("visualize", "out/trials/r/st/seed-0", "--only", "examples,confusion,means").code == 0
    assert stn("data", "preview", "--config", "mine.yaml", "-o", "sheet.png").code == 0
    assert stn("data", "build", "--config", "mine.yaml", "--output-dir", "built").code == 0
    built = stn(*RUN[:-1], "prebuilt", "--set", "prebuilt=built", "--only", "r/fcn")
    assert built.code == 0, built.err

    first = next((shapes / "dot").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(first))).save(first)
    assert "checksum" in stn(*RUN).sentence
    assert "has changed" in stn("eval", "out/trials/r/fcn/seed-0/checkpoint.pt").sentence


def test_a_configuration_may_come_from_a_pipe_which_can_be_read_once(stn, shapes):
    reading, writing = os.pipe()
    os.write(writing, Path("mine.yaml").read_bytes())
    os.close(writing)
    experiment, images = read_config(f"/dev/fd/{reading}")
    os.close(reading)
    assert experiment.source.classes == ("bar", "circle of red", "dot")
    assert len(images) == 2


def test_what_is_wrong_with_a_source_is_found_before_training(stn, shapes):
    assert "fashion_mnist" in stn(*RUN, "--set", "source=fasion_mnist").sentence
    assert "nowhere" in stn(*RUN, "--set", "source=./nowhere").sentence
    assert "shapes" in stn(*RUN, "--set", "datasets=[addition]").sentence
    assert "patches" in stn(*RUN, "--set", "datasets=[{name: t, base: tc, clutter: {size: 18}}]").sentence
    Image.new("L", (16, 16)).save(shapes / "dot/odd.png")
    for command in (RUN, ("config", "check", "mine.yaml"), ("data", "preview", "--config", "mine.yaml")):
        ended = stn(*command)
        assert ended.code == 2
        assert "odd.png" in ended.err
    assert not Path("out").exists()


@pytest.mark.parametrize(("options", "counts"), [((), (4, 1)), (("--validate",), (11, 5))], ids=["test", "validation"])
def test_too_few_images_to_report_on_are_told_of_before_training(stn, options, counts):
    for split, count in zip(("train", "test"), counts, strict=True):
        for number in range(count):
            path = Path("few", split, "ab"[number % 2], f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), number).save(path)
    Path("mine.yaml").write_text(MINE.replace("shapes", "few"))
    validation = ("--set", "validation=true") if options else ()
    for command in ((*RUN, *options), (*RUN, *options, "--dry-run"), ("config", "check", "mine.yaml", *validation)):
        ended = stn(*command)
        assert ended.code == 2, ended
        assert re.search(r"few .*(test|validation).*: 1, .* at least two; add", ended.err)
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_class_may_be_called_anything_that_a_line_can_hold(stn, shapes):
    names = ("![x](y.png)", "$_$ a|b", "小\xa0面包")
    for old, new in zip(("bar", "circle of red", "dot"), names, strict=True):
        (shapes / old).rename(shapes / new)
    picture = shapes / "cost_$5_$6.png"
    next((shapes / names[0]).iterdir()).rename(picture)
    for _ in range(2):  # trained, and read again
        ended = stn(*RUN, "--set", "controls=false", "--only", "r/*")
        assert ended.code == 0, ended.err
    for command in (
        ("report", "out"),
        ("status", "out"),
        ("eval", "out", "--confusion"),
        ("demo", "out"),
        ("data", "preview", "--config", "mine.yaml"),
        ("predict", "out", str(picture), "--picture", "seen.png"),
    ):
        ended = stn(*command)
        assert ended.code == 0, ended.err
        assert "Warning" not in ended.err
    report = Path("out/report.md").read_text()
    head, rule, row, _ = report.partition("## Errors by class")[2].strip().splitlines()[2:6]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in (head, rule, row)}) == 1
    page = Path("out/report.html").read_text()
    assert all(f">{name}</th>" in page for name in names)


@pytest.mark.slow
def test_the_documentations_page_runs_from_top_to_bottom(stn):
    page = (Path(__file__).parents[2] / "docs/own_images.md").read_text()
    names: dict[str, object] = {}
    done = 0
    for kind, block in re.findall(r"```(python)?\n(.*?)```", page, re.DOTALL):
        if kind:
            exec(block, names)
        for line in () if kind else block.splitlines():
            if line.startswith("stn-train") and "mnist_rot" not in line:  # which needs MNIST, and hours
                ended = stn(*shlex.split(line)[1:], *(("--threads", "1") if " run " in line else ()))
                assert ended.code == 0, ended.err
                done += 1
    assert done == 5

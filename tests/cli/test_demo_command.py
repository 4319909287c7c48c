"""`stn-train demo`: a page to move a digit on, from a run's folder."""

import re
from pathlib import Path

import pytest

MOST_BYTES = 5_000_000


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The addresses that a browser was told to open."""
    addresses: list[str] = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    return addresses


def test_a_run_has_its_page_which_is_opened_and_which_its_report_links(trained, stn, opened):
    assert 'href="demo.html"' not in Path(trained, "report.html").read_text()
    ended = stn("demo", trained)
    assert (ended.code, ended.err) == (0, "")
    path = Path(trained, "demo.html")
    assert ended.out == f"wrote {path}\n"
    assert opened == [path.resolve().as_uri()]
    assert 'href="demo.html"' in Path(trained, "report.html").read_text()
    page = path.read_text()
    assert len(page) < MOST_BYTES
    assert re.findall(r"(?:src|href)=\S+|url\(|https?://(?!www\.w3\.org/)", page) == [], "nothing is fetched"
    assert {"cnn", "st_cnn"} <= set(re.findall(r'"name": "(\w+)"', page))


def test_another_file_leaves_the_run_as_it_is(trained, stn, opened, contents):
    before = contents(Path(trained))
    assert stn("demo", trained, "--no-open", "--only", "r/cnn", "-o", "page.html").code == 0
    assert opened == []
    assert contents(Path(trained)) == before
    assert set(re.findall(r'"name": "(\w*cnn)"', Path("page.html").read_text())) == {"cnn"}


def test_what_there_is_no_page_of_is_told(trained, stn, opened):
    assert "nowhere" in stn("demo", "nowhere").sentence
    assert "r/fcn" in stn("demo", trained, "--only", "r/fcn").sentence
    assert opened == []


def test_without_a_run_it_is_the_pair_that_ships_with_the_package(stn, opened):
    ended = stn("demo")
    assert (ended.code, ended.out) == (0, "wrote demo.html\n")
    page = Path("demo.html")
    assert opened == [page.resolve().as_uri()]
    assert {"cnn", "st_cnn_keypoints"} <= set(re.findall(r'"name": "(\w+)"', page.read_text()))
    assert "Trained on mnist, distorted as rts has it" in page.read_text()

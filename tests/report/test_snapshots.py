"""A trial's pictures, drawn from made-up arrays."""

import io

import numpy as np
import pytest
from made_up_run import EPOCHS, SQUARE, begin, made_up_gallery
from PIL import Image, ImageColor

from stn_train.report.plots import OUTLINES
from stn_train.report.snapshots import KINDS, draw, drawings

SEEN = made_up_gallery()


def verified(kind, seen):
    return Image.open(io.BytesIO(draw(kind, "made up", seen, tuple("0123456789"))))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_file_of_its_ending(kind):
    assert verified(kind, SEEN[kind]).format == KINDS[kind].upper()


def test_titles_words_and_files_name_model_and_dataset(tmp_path):
    _, (_, trial) = begin(tmp_path)
    few = {kind: SEEN[kind] for kind in ("rotation_sweep", "means")}
    rotation_sweep, means = drawings(trial, few)
    assert (means.name, rotation_sweep.name) == ("means_st_cnn@rts.png", "rotation_sweep_st_cnn@rts.png")
    assert means.title == "The mean image of each class, st_cnn on rts, seed 0"
    for drawing in (means, rotation_sweep):
        assert "st_cnn" in drawing.words
        assert "of rts" in drawing.words


@pytest.mark.parametrize(("kinds", "drawn"), [([0, 1, 2], ["strip", "examples"]), ([2, 2, 2], ["examples"])])
def test_typical_examples_stand_in_a_strip_where_there_are_any(tmp_path, kinds, drawn):
    _, (_, trial) = begin(tmp_path)
    seen = {"examples": SEEN["examples"] | {"kind": np.array(kinds)}}
    assert [drawing.kind for drawing in drawings(trial, seen, with_strip=True)] == drawn


def test_kinds_of_examples_stand_below_each_other():
    """All three are of the best, or each is of a kind of its own."""
    within_class, apart = (
        verified("examples", SEEN["examples"] | {"kind": kind}) for kind in (np.zeros(3, int), np.arange(3))
    )
    assert within_class.width == pytest.approx(3 * apart.width, abs=2)
    assert apart.height > 2.5 * within_class.height


def test_mean_images_are_as_bright_as_can_be():
    shown = np.asarray(verified("means", SEEN["means"]).convert("L"))
    before, after = (shown[top : top + 60, 10:80] for top in (40, 134))
    assert before.min() == after.min() == 255


@pytest.mark.parametrize(("fonts", "boxes"), [([], True), (["STIXGeneral"], False)])
def test_a_name_that_the_first_font_lacks_is_written_in_another(fonts, boxes, monkeypatch):
    """Two letters that DejaVu Sans lacks, as it lacks Chinese, and that a font which comes with matplotlib has."""
    monkeypatch.setattr("stn_train.report.snapshots.FURTHER_FONTS", fonts)
    one, other = (draw("means", "made up", SEEN["means"], [letter] * 10) for letter in "\u1d81\u1d84")
    assert (one == other) == boxes


def test_each_transformer_has_an_output_and_an_outline_in_its_own_colour():
    """Two digits, a channel each, seen by two transformers side by side, behind which stands a third."""
    image = np.zeros((2, 2, 42, 42), np.uint8)
    image[:, 0, 10:20], image[:, 1, 15:30] = 255, 255
    seen = {
        "image": image,
        **{name: np.zeros((2, 2, 28, 28), np.uint8) for name in ("output", "output_1")},
        "output_2": np.zeros((2, 4, 28, 28), np.uint8),
        **{name: np.tile(SQUARE / half, (2, 1, 1)) for name, half in (("outline", 1), ("outline_1", 2))},
        "label": np.arange(2),
        "predicted": np.arange(2),
        "angle": np.array([0, 180]),
    }
    picture = np.asarray(verified("rotation_sweep", seen).convert("RGB")).astype(int)
    first, *outputs = (picture[22 + row * 94 : 22 + (row + 1) * 94, :94] for row in range(4))
    colours = [np.array(ImageColor.getrgb(name)) for name in OUTLINES[:3]]
    for number, colour in enumerate(colours):
        like = [(abs(part - colour) < 60).all(axis=2).any() for part in outputs]
        assert like == [number == other for other in range(3)], "each output in its frame"
    seen_first = [(abs(first - colour) < 60).all(axis=2).any() for colour in colours]
    assert seen_first == [True, True, False], "what the third reads is no part of the image"
    only_first, both, only_second, neither = (tuple(first[10 + int(row * 1.75), 60]) for row in (12, 17, 25, 35))
    assert neither == (0, 0, 0)
    assert len({only_first, both, only_second, neither}) == 4


def test_an_animation_has_a_step_for_each_epoch_and_at_most_thirty():
    def stepped(epochs):
        """The outputs grow brighter from epoch to epoch, so that no two steps look alike."""
        seen = dict(SEEN["training"])
        brightness = np.linspace(0, 255, epochs + 1).astype(np.uint8)[:, None, None, None, None]
        seen["output"] = np.broadcast_to(brightness, (epochs + 1, 3, 1, 28, 28))
        each = {name: np.stack([seen[name][0]] * (epochs + 1)) for name in ("outline", "predicted")}
        return seen | each | {"epoch": np.arange(epochs + 1)}

    assert verified("training", stepped(EPOCHS)).n_frames == EPOCHS + 1
    assert verified("training", stepped(100)).n_frames == 30


def test_an_animation_of_some_epochs_tells_which_they_are():
    seen = SEEN["training"]
    frames = {name: seen[name][:3] for name in ("output", "outline", "predicted")}
    frames["output"] = frames["output"] + np.arange(3, dtype=np.uint8)[:, None, None, None, None] * 60
    some, each = (
        verified("training", seen | frames | {"epoch": np.array(epochs)}) for epochs in ([0, 2, 9], [0, 1, 2])
    )
    assert some.n_frames == each.n_frames == 3
    for picture in (some, each):
        picture.seek(2)
    assert np.any(np.asarray(some.convert("L"))[:22] != np.asarray(each.convert("L"))[:22]), "the title tells the epoch"


@pytest.mark.parametrize(("grown", "width"), [(1.0, 1.2), (1.3, 1.4), (9.0, 1.7)])
def test_the_border_is_as_wide_as_the_outlines_need_within_reason(grown, width):
    """Grown about the image's middle: 1.3 times as large, they reach over its edge by 0.15 of its side."""
    seen = {**SEEN["rotation_sweep"], "image": np.full((3, 1, 42, 42), 255, np.uint8)}
    seen["outline"] = (seen["outline"] - 20.5) * grown + 20.5
    picture = np.asarray(verified("rotation_sweep", seen).convert("RGB")).astype(int)
    across = picture[22 + 44, 3:91]
    white = np.flatnonzero((across > 250).all(axis=1))
    assert white[0] == pytest.approx(88 * (1 - 1 / width) / 2, abs=3)


def test_an_outline_lies_where_it_says_and_mistakes_are_red():
    seen = dict(SEEN["rotation_sweep"])
    alone = {name: array[:2] for name, array in seen.items()}
    right, wrong = (np.asarray(verified("rotation_sweep", one).convert("RGB")).astype(int) for one in (alone, seen))
    reddish = (wrong[:, :, 0] > 200) & (wrong[:, :, 1] < 80) & (wrong[:, :, 2] < 80)
    assert reddish.any()
    assert not ((right[:, :, 0] > 200) & (right[:, :, 1] < 80) & (right[:, :, 2] < 80)).any()
    orange = (abs(right - (255, 165, 0)) < 60).all(axis=2)
    rows, columns = np.nonzero(orange[:110, :94])
    assert columns.max() - columns.min() == pytest.approx(88 / 1.2, abs=4), "the whole image, without its border"
    assert rows.max() - rows.min() == pytest.approx(88 / 1.2, abs=4)

"""A trial's pictures, drawn from made-up arrays."""

import io

import numpy as np
import pytest
from made_up_run import EPOCHS, SQUARE, begin, made_up_gallery
from matplotlib.colors import to_rgba
from PIL import Image

from stn_train.reporting import figures
from stn_train.reporting.gallery import KINDS, drawings

SEEN = made_up_gallery()
RED = (255, 0, 0)


@pytest.fixture
def axes_of(monkeypatch):
    """Gives the axes of the picture of some examples."""

    def draw(seen):
        drawn = []
        monkeypatch.setattr(figures, "png", drawn.append)
        figures.examples("made up", seen)
        return drawn[0].axes

    return draw


def opened(kind, seen):
    return Image.open(io.BytesIO(KINDS[kind].draw("made up", seen)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_file_of_its_ending(kind):
    assert opened(kind, SEEN[kind]).format == KINDS[kind].ending.upper()


def test_titles_words_and_files_name_model_and_dataset(tmp_path):
    _, (_, trial) = begin(tmp_path)
    few = {kind: SEEN[kind] for kind in ("turning", "means")}
    means, turning = drawings(trial, few)
    assert (means.name, turning.name) == ("means_st_cnn@rts.png", "turning_st_cnn@rts.png")
    assert means.title == "The mean image of each class, st_cnn on rts, seed 0"
    for drawing in (means, turning):
        assert "st_cnn" in drawing.words
        assert "of rts" in drawing.words


def test_kinds_of_examples_stand_in_rows_of_their_own_and_mistakes_in_red(axes_of):
    axes = axes_of(SEEN["examples"])
    assert [one.get_ylabel() for one in axes[::2]] == ["best", "typical", "worst"]
    assert len({one.get_subplotspec().rowspan.start for one in axes[::2]}) == 3
    captions = [one.xaxis.label for one in axes]
    assert [caption.get_text() for caption in captions[-2:]] == ["true 3", "predicted 5"]
    assert [caption.get_color() for caption in captions[1::2]] == ["black", "black", "red"]


def test_each_transformer_has_a_picture_and_an_outline_in_its_own_colour(axes_of):
    """Two digits, a channel each, seen by two transformers side by side, behind which stands a third."""
    image = np.zeros((5, 2, 42, 42), np.uint8)
    image[:, 0, 10:20], image[:, 1, 15:30] = 255, 255
    axes = axes_of(
        {
            "image": image,
            **{name: np.zeros((5, 2, 28, 28), np.uint8) for name in ("output", "output_1")},
            "output_2": np.zeros((5, 4, 28, 28), np.uint8),
            **{name: np.tile(SQUARE / half, (5, 1, 1)) for name, half in (("outline", 1), ("outline_1", 2))},
            "label": np.arange(5),
            "predicted": np.arange(5),
            "kind": np.zeros(5, int),
        }
    )
    assert len(axes) == 5 * 4
    seen, *made = axes[:4]
    first, _, second, _ = seen.lines
    assert len(first.get_xydata()) == 4 + 1, "closed"
    assert np.array_equal(second.get_xydata()[:4], SQUARE / 2)
    colours = [line.get_color() for line in (first, second)]
    frames = [one.spines["left"].get_edgecolor() for one in made]
    assert len(set(colours)) == 2
    assert frames[:2] == [to_rgba(colour) for colour in colours]
    assert len(set(frames)) == 3
    shown = seen.images[0].get_array()
    only_first, both, only_second, neither = (tuple(shown[row, 0]) for row in (12, 17, 25, 40))
    assert neither == (0, 0, 0)
    assert len({only_first, both, only_second, neither}) == 4


def test_an_animation_has_a_step_for_each_epoch_and_at_most_thirty():
    def stepped(epochs):
        """The outputs grow brighter from epoch to epoch, so that no two steps look alike."""
        seen = dict(SEEN["training"])
        brightness = np.linspace(0, 255, epochs + 1).astype(np.uint8)[:, None, None, None, None]
        seen["output"] = np.broadcast_to(brightness, (epochs + 1, 3, 1, 28, 28))
        return seen | {name: np.stack([seen[name][0]] * (epochs + 1)) for name in ("outline", "predicted")}

    assert opened("training", stepped(EPOCHS)).n_frames == EPOCHS + 1
    assert opened("training", stepped(100)).n_frames == 30


def test_an_outline_lies_where_it_says_and_mistakes_are_red():
    seen = dict(SEEN["turning"])
    alone = {name: array[:2] for name, array in seen.items()}
    right, wrong = (np.asarray(opened("turning", one).convert("RGB")).astype(int) for one in (alone, seen))
    reddish = (wrong[:, :, 0] > 200) & (wrong[:, :, 1] < 80) & (wrong[:, :, 2] < 80)
    assert reddish.any()
    assert not ((right[:, :, 0] > 200) & (right[:, :, 1] < 80) & (right[:, :, 2] < 80)).any()
    orange = (abs(right - (255, 165, 0)) < 60).all(axis=2)
    rows, columns = np.nonzero(orange[:110, :94])
    assert columns.max() - columns.min() == pytest.approx(88 / 1.2, abs=4), "the whole image, without its border"
    assert rows.max() - rows.min() == pytest.approx(88 / 1.2, abs=4)

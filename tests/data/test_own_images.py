"""Images of one's own: the same whatever files they lie in, split by class, refused by name; in colour, of any size."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import draws_of, spec_of
from PIL import Image
from scipy.io import savemat

from stn_train.data.datasets import make_fixed_dataset, render
from stn_train.data.distortion import true_poses
from stn_train.data.images import ImageSet
from stn_train.data.own_images import read_images
from stn_train.data.sources import load_images
from stn_train.errors import UserError
from stn_train.experiment.runtime import read_config
from stn_train.geometry import HOMOGRAPHY, bilinear_sampler
from stn_train.specs import SOURCES, SourceSpec, trials_of

NAMES = ("bar", "cross", "dot")
RANDOM = np.random.default_rng(0)
IMAGES = {split: RANDOM.integers(0, 256, (count, 12, 12), np.uint8) for split, count in (("train", 12), ("test", 6))}
LABELS = {split: np.arange(len(images)) % 3 for split, images in IMAGES.items()}


def as_npz(folder: Path) -> Path:
    named = {f"images{'_test' * (split == 'test')}": images for split, images in IMAGES.items()}
    named |= {f"labels{'_test' * (split == 'test')}": labels for split, labels in LABELS.items()}
    np.savez(folder / "mine.npz", **named, class_names=np.array(NAMES))
    return folder / "mine.npz"


def as_folders(folder: Path) -> Path:
    for split, images in IMAGES.items():
        for number, (image, label) in enumerate(zip(images, LABELS[split], strict=True)):
            path = folder / split / NAMES[label] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


def as_idx(folder: Path, dot: bool = False, pack: Callable[[bytes], bytes] = bytes) -> Path:
    for split, begin in (("train", "train"), ("test", "t10k")):
        for kind, values in (("images-idx3", IMAGES[split]), ("labels-idx1", LABELS[split].astype(np.uint8))):
            name = f"{begin}-{kind.replace('-idx', '.idx') if dot else kind}-ubyte{'.gz' * (pack is gzip.compress)}"
            header = np.array([0x800 + values.ndim, *values.shape], ">u4").tobytes()
            (folder / name).write_bytes(pack(header + values.tobytes()))
    return folder


def as_amat(folder: Path) -> Path:
    for split, name in (("train", "train_valid"), ("test", "test")):
        table = np.column_stack([IMAGES[split].reshape(-1, 144) / 255, LABELS[split]])
        np.savetxt(folder / f"mine_{name}.amat", table)
    return folder / "mine_train_valid.amat"


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "npz": as_npz,
    "folders": as_folders,
    "idx": as_idx,
    "idx, with a dot and gzipped": lambda folder: as_idx(folder, dot=True, pack=gzip.compress),
    "amat": as_amat,
    "a folder of amat": lambda folder: as_amat(folder).parent,
}


def read(path: Path, **keys: int) -> tuple[SourceSpec, ImageSet, ImageSet]:
    return read_images(SourceSpec(path=str(path), **keys))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_the_same_whatever_files_they_lie_in(tmp_path, layout):
    source, *splits = read(LAYOUTS[layout](tmp_path))
    assert (source.size, source.channels, source.counts) == ((12, 12), 1, (12, 6))
    named = layout in ("npz", "folders")
    assert source.classes == (NAMES if named else ("0", "1", "2"))
    for split, name in zip(splits, ("train", "test"), strict=True):
        pairs = {(image.numpy().tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)}
        assert pairs == {(image.tobytes(), int(label)) for image, label in zip(IMAGES[name], LABELS[name], strict=True)}


def test_names_in_bytes_are_names(tmp_path):
    names = np.char.encode(["bär", "dot"], "utf-8")
    np.savez(tmp_path / "labels.npz", images=GREY, labels=names[LABEL % 2])
    np.savez(tmp_path / "classes.npz", images=GREY, labels=LABEL % 2, class_names=names)
    for file in ("labels.npz", "classes.npz"):
        assert read(tmp_path / file)[0].classes == ("bär", "dot")


def test_labels_are_the_same_classes_whatever_they_are_written_as(tmp_path):
    """Twelve classes, since as text 10 and 11 come before 2."""
    images, labels = RANDOM.integers(0, 256, (24, 9, 9), np.uint8), np.arange(24) % 12
    names = np.array([f"class {number}" for number in range(12)])[::-1]
    arrays = {"images": images, "labels": labels, "images_test": images}
    found = []
    for name, changed in {
        "numbers": {"labels_test": labels},
        "text": {"labels_test": labels.astype(str)},
        "names": {"labels": names[labels], "labels_test": names[labels], "class_names": names},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **arrays | changed)
        source, train, test = read(tmp_path / f"{name}.npz")
        assert source.classes == (tuple(names) if name == "names" else tuple(map(str, range(12))))
        found += [train.labels, test.labels]
    assert all(each.tolist() == labels.tolist() for each in found)


def test_without_test_images_a_fifth_of_each_class_is_taken_by_the_seed(tmp_path):
    images = RANDOM.integers(0, 256, (90, 9, 10, 3), np.uint8)
    np.savez(tmp_path / "all.npz", images=images, labels=np.repeat(["a", "b"], [60, 30]))
    source, train, test = read(tmp_path / "all.npz")
    assert (source.classes, source.channels, source.size) == (("a", "b"), 3, (9, 10))
    assert test.labels.bincount().tolist() == [12, 6]
    parts = [{image.numpy().tobytes() for image in split.images} for split in (train, test)]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 90
    again, other = (read(tmp_path / "all.npz", split_seed=seed)[2] for seed in (0, 1))
    assert torch.equal(again.images, test.images)
    assert not torch.equal(other.images, test.images)


def test_a_source_is_its_images_wherever_they_lie(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        as_folders(folder)
    known, moved = read(here)[0], read(there)[0]
    assert known == moved
    read_images(known.changed(path=str(there)))
    below = read_images(known.changed(path="nowhere/there"), str(tmp_path))[0]
    assert below == known
    path = next((there / "train/dot").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert read(there)[0] != known
    with pytest.raises(UserError, match="has changed"):
        read_images(known.changed(path=str(there)))


# --- what does not fit ------------------------------------------------------------------------------------------------


def picture(folder: Path, name: str, mode: str = "L", size: tuple[int, int] = (12, 12), **how: object) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(folder / name, **how)


def damaged_dds(folder: Path, name: str) -> None:
    """Of a kind of pixels that there is not, at which Pillow raises NotImplementedError."""
    picture(folder, name, "RGB", format="DDS")
    change(folder / name, 80, 0)


def archive(**arrays: object) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / "x.npz", **arrays)


GREY, LABEL = IMAGES["train"], LABELS["train"]
MISTAKES: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...]]] = {
    "another size": (".", lambda f: picture(f, "dot/odd.png", size=(13, 12)), ("odd.png", "12 x 13", "12 x 12")),
    "16 bits": (".", lambda f: picture(f, "dot/deep.png", "I;16"), ("deep.png", "8")),
    "alpha": (".", lambda f: picture(f, "dot/clear.png", "RGBA"), ("clear.png", "alpha")),
    "too large": (".", lambda f: picture(f, "dot/large.png", size=(97, 97)), ("large.png", "97 x 97", "96")),
    "no image": (".", lambda f: (f / "dot/words.png").write_text("words"), ("words.png",)),
    "a class of two lines": (
        ".",
        lambda f: [picture(f, f"a\nb/{n}.png") for n in range(2)],
        (r"'a\nb'", "line break", "rename"),
    ),
    "an empty class": (".", lambda f: (f / "empty").mkdir(), ("empty", "no images")),
    "no class": ("loose", lambda f: picture(f, "loose/a.png"), ("loose", "class")),
    "one class": ("alone", lambda f: picture(f, "alone/a/b.png"), ("alone", "1 class", "2 to")),
    "a strange test class": (
        "t",
        lambda f: [picture(f, f"t/{n}") for n in ("train/a/b.png", "test/c/d.png")],
        ("test/c",),
    ),
    "another kind of file, damaged": (".", lambda f: damaged_dds(f, "dot/odd.png"), ("odd.png",)),
    "a long name": (".", lambda f: picture(f, f"{'x' * 65}/a.png"), (f"'{'x' * 64}'", "1 to 64", "rename")),
    "labels without images": ("x.npz", archive(labels=LABEL), ("x.npz", "images")),
    "too few labels": ("x.npz", archive(images=GREY, labels=LABEL[1:]), ("x.npz", "12 images and 11 labels")),
    "floats": ("x.npz", archive(images=GREY / 255, labels=LABEL), ("x.npz", "float64", "uint8")),
    "small": ("x.npz", archive(images=GREY[:, :7], labels=LABEL), ("x.npz", "7 x 12", "8 to 96")),
    "two channels": ("x.npz", archive(images=np.stack([GREY] * 2, 3), labels=LABEL), ("x.npz", "12 x 12 x 12 x 2")),
    "many classes": (
        "x.npz",
        archive(images=np.repeat(GREY[:1], 1001, 0), labels=np.arange(1001)),
        ("x.npz", "1,001 classes"),
    ),
    "objects": ("x.npz", archive(images=np.array([None]), labels=LABEL), ("x.npz",)),
    "a label without a letter": (
        "x.npz",
        archive(images=GREY, labels=np.array(["", "a"])[LABEL % 2]),
        ("x.npz", "''", "1 to 64"),
    ),
    "a class name that is not UTF-8": (
        "x.npz",
        archive(images=GREY, labels=LABEL % 2, class_names=np.array(["a", "caf\udce9"])),
        ("x.npz", r"'caf\udce9'", "UTF-8"),
    ),
    "bytes that are no text": (
        "x.npz",
        archive(images=GREY, labels=np.array([b"a", b"\xff"])[LABEL % 2]),
        ("x.npz", "UTF-8"),
    ),
    "a label too many": (
        "x.npz",
        archive(images=GREY, labels=LABEL, class_names=np.array(["a", "b"])),
        ("x.npz", "image 2", "label 2"),
    ),
    "test images of another size": (
        "x.npz",
        archive(images=GREY, labels=LABEL, images_test=GREY[:, 1:], labels_test=LABEL),
        ("x.npz", "11 x 12", "12 x 12"),
    ),
    "idx without labels": (
        "i",
        lambda f: [as_idx_in(f), (f / "i/t10k-labels-idx1-ubyte").unlink()],
        ("i", "t10k-labels"),
    ),
    "idx of 16 bits": (
        "i",
        lambda f: [as_idx_in(f), change(f / "i/train-images-idx3-ubyte", 2, 11)],
        ("train-images",),
    ),
    "idx cut short": ("i", lambda f: [as_idx_in(f), change(f / "i/train-images-idx3-ubyte", 7, 13)], ("train-images",)),
    "amat of no square": ("x.amat", lambda f: np.savetxt(f / "x.amat", np.zeros((4, 8))), ("x.amat", "8 numbers")),
    "amat without a line": ("x.amat", lambda f: (f / "x.amat").touch(), ("x.amat", "no numbers")),
    "amat of a comment": ("x.amat", lambda f: (f / "x.amat").write_text("# nothing"), ("x.amat", "no numbers")),
    "an infinite label": ("x.amat", lambda f: one_row(f, np.inf), ("x.amat", "whole number")),
    "an enormous label": ("x.amat", lambda f: one_row(f, 1e30), ("x.amat", "whole number")),
    "a label that is no number": ("x.amat", lambda f: one_row(f, np.nan), ("x.amat", "whole number")),
    "an infinite pixel": ("x.amat", lambda f: one_row(f, 0, np.inf), ("x.amat", "0 to 1")),
    "amat of words": ("x.amat", lambda f: (f / "x.amat").write_text("a b c"), ("x.amat",)),
    "another file": ("x.csv", lambda f: (f / "x.csv").write_text("1,2"), ("x.csv", ".npz")),
    "nothing": ("nowhere", lambda f: None, ("nowhere", "--data-root")),
}


def one_row(folder: Path, label: float, pixel: float = 0) -> None:
    np.savetxt(folder / "x.amat", [[pixel] * 64 + [label]])


def as_idx_in(folder: Path) -> Path:
    (folder / "i").mkdir()
    return as_idx(folder / "i")


def change(path: Path, place: int, value: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(bytes(content))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_one_sentence_that_names_the_file(tmp_path, mistake):
    name, make, words = MISTAKES[mistake]
    if name == ".":
        for label in ("dot", "line"):
            for number in range(3):
                picture(tmp_path, f"{label}/{number}.png")
    make(tmp_path)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    sentence = str(caught.value)
    assert len(caught.value.args) == 1
    assert "\n" not in sentence
    assert not re.search("remove|delete", sentence), "what is the user's own"
    assert all(word in sentence for word in (*words, str(tmp_path))), sentence


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "P"])
@pytest.mark.parametrize("place", [".", "train", "test"])
def test_grey_pictures_beside_a_coloured_one_are_in_colour(tmp_path, place, mode):
    for split in (".",) if place == "." else ("train", "test"):
        for name, grey in (("a/0.png", "L"), ("a/1.png", "1"), ("b/0.bmp", "L"), ("b/1.png", "1")):
            picture(tmp_path, f"{split}/{name}", grey)
    picture(tmp_path, f"{place}/b/2.tif", mode)
    source, train, test = read(tmp_path)
    assert (source.channels, train.images.shape[1:], test.images.shape[1:]) == (3, (3, 12, 12), (3, 12, 12))


def test_grey_arrays_beside_coloured_ones_are_in_colour(tmp_path):
    tested, labels = np.stack([IMAGES["test"]] * 3, 3), LABELS["test"]
    np.savez(tmp_path / "x.npz", images=GREY, labels=LABEL, images_test=tested, labels_test=labels)
    source, train, test = read(tmp_path / "x.npz")
    assert source.channels == 3
    assert np.array_equal(train.images, np.stack([GREY] * 3, 1))
    assert np.array_equal(test.images, np.stack([IMAGES["test"]] * 3, 1))


# --- sources with a name, made on disk as torchvision lays them out ---------------------------------------------------


def written(path: Path, values: np.ndarray, code: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.array([0x100 * code + values.ndim, *values.shape], ">u4").tobytes() + values.tobytes())


def test_letters_of_emnist_stand_upright_and_count_from_zero(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES["emnist_letters"], "counts", (12, 6))
    images = {split: np.pad(IMAGES[split], ((0, 0), (8, 8), (8, 8))) for split in IMAGES}
    for split in IMAGES:
        begin = tmp_path / f"EMNIST/raw/emnist-letters-{split}"
        written(begin.with_name(f"{begin.name}-images-idx3-ubyte"), images[split].transpose(0, 2, 1).copy())
        written(begin.with_name(f"{begin.name}-labels-idx1-ubyte"), (LABELS[split] + 1).astype(np.uint8))
    train, test = load_images("emnist_letters", str(tmp_path))
    assert np.array_equal(train.images[:, 0], images["train"])
    assert np.array_equal(test.labels, LABELS["test"])
    begin = tmp_path / "EMNIST/raw/emnist-letters-test-labels-idx1-ubyte"
    written(begin, LABELS["test"].astype(np.uint8))
    with pytest.raises(UserError, match="has the label 0, and labels are from 1 to 26") as caught:
        load_images("emnist_letters", str(tmp_path))
    assert str(begin) in str(caught.value)


def test_of_qmnists_labels_the_first_is_the_class(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES["qmnist"], "counts", (12, 6))
    for split in IMAGES:
        written(
            tmp_path / f"QMNIST/raw/qmnist-{split}-images-idx3-ubyte", np.pad(IMAGES[split], ((0, 0), (8, 8), (8, 8)))
        )
        table = np.column_stack([LABELS[split], *[np.full(len(LABELS[split]), 70_000)] * 7]).astype(">i4")
        written(tmp_path / f"QMNIST/raw/qmnist-{split}-labels-idx2-int", table, code=12)
    for split, name in zip(load_images("qmnist", str(tmp_path)), IMAGES, strict=True):
        assert split.labels.tolist() == LABELS[name].tolist()


def test_svhn_is_in_colour_and_its_ten_is_a_zero(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES["svhn"], "counts", (12, 6))
    images = {split: RANDOM.integers(0, 256, (len(IMAGES[split]), 3, 32, 32), np.uint8) for split in IMAGES}
    for split in IMAGES:
        labels = np.where(LABELS[split] == 0, 10, LABELS[split])[:, None]
        savemat(tmp_path / f"{split}_32x32.mat", {"X": images[split].transpose(2, 3, 1, 0), "y": labels})
    for split, name in zip(load_images("svhn", str(tmp_path)), IMAGES, strict=True):
        assert np.array_equal(split.images, images[name])
        assert split.labels.tolist() == LABELS[name].tolist()
    savemat(tmp_path / "test_32x32.mat", {"X": images["test"], "y": LABELS["test"]})
    with pytest.raises(UserError, match=r"test_32x32\.mat is not svhn's"):
        load_images("svhn", str(tmp_path))


# --- distorted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["rts", "tc"])
def test_the_channels_of_an_image_are_distorted_alike(preset):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 3, 20, 26), dtype=torch.uint8, generator=generator)
    labels, spec = torch.zeros(10, dtype=torch.int64), spec_of(preset).changed(canvas=(40, 44))
    colour = ImageSet(images, labels)
    draws = draws_of(spec, colour)
    together = render(spec, colour, draws, torch.arange(10))
    assert together.shape == (10, 3, 40, 44)
    for channel in range(3):
        grey = ImageSet(images[:, channel : channel + 1], labels)
        assert torch.equal(together[:, channel : channel + 1], render(spec, grey, draws, torch.arange(10)))


@pytest.mark.parametrize("size", [(12, 20), (40, 40), (33, 9)])
def test_images_of_any_size_are_themselves_where_nothing_distorts_them(size):
    images = torch.randint(0, 256, (4, 1, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = ImageSet(images, torch.arange(4))
    assert torch.equal(make_fixed_dataset(spec_of(canvas=size), found, "test")[0].images, images)


def test_the_true_pose_brings_images_back_that_are_wider_than_high():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 30), indexing="ij")
    smooth = ((1 - x**2) * (1 - y**2) * (1 + x) / 2 * 255).byte()[None, None]
    spec = spec_of(canvas=[40, 50], rotation=60, scale=[0.8, 1.1], shear=10, translation=0.5)
    fixed, *_ = make_fixed_dataset(spec, ImageSet(smooth, torch.zeros(1, dtype=torch.int64), repeats=20), "test")
    poses = true_poses(spec, fixed.theta)
    back = bilinear_sampler(fixed.images.float(), HOMOGRAPHY.grid(poses, (16, 30)))
    assert float((back - smooth.float()).abs().mean()) < 0.05 * float(smooth.float().mean())


def test_affnists_height_and_width_are_scaled_each_by_itself(real_digits):
    spec = spec_of("affnist").changed(rotation=None, shear=None)
    many = ImageSet(real_digits[0].images[:500], real_digits[0].labels[:500], repeats=4)
    (drawn,) = draws_of(spec, many)
    scales = (40 / 28) / drawn.theta[:, [0, 4]].double()
    assert 0.8 <= float(scales.min()) < 0.81
    assert 1.19 < float(scales.max()) <= 1.2
    assert abs(float(torch.corrcoef(scales.T)[0, 1])) < 0.1
    assert np.allclose(drawn.scale, scales.prod(dim=1).sqrt())
    made, *_ = make_fixed_dataset(spec_of("affnist"), real_digits[1].subset(torch.arange(300)), "test")
    assert (made.images.shape[-2:], made.clipped) == ((40, 40), 0)


def test_canvas_and_output_are_as_large_as_the_images_of_a_path(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((20, 32, 48), np.uint8), labels=np.arange(20) % 2)
    (tmp_path / "mine.yaml").write_text(
        f"source: {tmp_path / 'x.npz'}\ndatasets: [r, rts, {{name: own, base: r, canvas: 50}}]\nmodels: [st_cnn]\n"
    )
    experiment, images = read_config(str(tmp_path / "mine.yaml"))
    assert [dataset.canvas for dataset in experiment.datasets] == [(32, 48), (48, 72), (50, 50)]
    assert len(images) == 2
    for trial in trials_of(experiment):
        assert trial.model.transformer is not None
        assert (trial.model.transformer.output_size, trial.classes, trial.channels) == ((32, 48), 2, 1)
        assert type(trial).model_validate_json(trial.model_dump_json()) == trial

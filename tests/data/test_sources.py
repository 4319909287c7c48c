"""Sources of digits: what the bundled one is made of, and what is refused of the others' files."""

import gzip
import hashlib
import shutil
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits as load_scikit_digits
from torch.nn import functional as F

from stn_train.data import images as digits_module
from stn_train.data.datasets import hold_out, seeded_subset
from stn_train.data.sources import load_images
from stn_train.errors import UserError
from stn_train.specs import SOURCES

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IMAGES_SHA256 = "a7215fc130fe26177bd470e2161c8621275454f4b53a84287fba6f7003d00a11"


# --- the bundled source -------------------------------------------------------------------------------------------


def test_the_bundled_digits_have_the_shape_of_mnists():
    train, test = load_images("digits")
    assert (len(train), len(test)) == (1352, 445)
    for split in (train, test):
        assert split.images.shape == (len(split), 1, 28, 28)
        assert split.labels.shape == (len(split),)
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        assert split.images.amax(dim=(1, 2, 3)).min() > 100


def test_the_bundled_digits_are_split_alike_in_every_class():
    train, test = (split.labels.bincount(minlength=10) for split in load_images("digits"))
    assert torch.equal(test, (train + test) // 4)


def test_no_bundled_digit_is_in_both_splits():
    train, test = ({image.numpy().tobytes() for image in split.images} for split in load_images("digits"))
    assert len(train | test) == 1797


def test_the_bundled_digits_are_the_same_bytes_everywhere():
    images = torch.cat([split.images for split in load_images("digits")])
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest() == IMAGES_SHA256


def test_a_bundled_digit_is_scikit_learns_enlarged_and_centred_by_mass():
    bunch = load_scikit_digits()
    small = torch.from_numpy(bunch.images[bunch.target == 7][3])  # every fourth of a class is for testing
    large = F.interpolate(small[None, None] * 255 / 16, (20, 20), mode="bilinear")[0, 0]
    _, test = load_images("digits")
    image = test.images[test.labels == 7][0, 0].double()
    box = image.unfold(0, 20, 1).unfold(1, 20, 1)
    distances = (box - large).abs().amax(dim=(2, 3))
    assert distances.min() <= 0.5 + 1e-9
    centres = [(image.sum(dim) * torch.arange(28)).sum() / image.sum() for dim in (0, 1)]
    assert centres == pytest.approx([13.5, 13.5], abs=0.5)


def test_the_last_sixth_is_held_out_and_nothing_is_in_both_parts():
    train, _ = load_images("digits")
    rest, held = hold_out(train)
    assert len(held) == len(train) // 6
    assert torch.equal(held.images, train.images[-len(held) :])
    assert rest.repeats == held.repeats == train.repeats
    parts = [{image.numpy().tobytes() for image in part.images} for part in (rest, held)]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {image.numpy().tobytes() for image in train.images}
    assert held.labels.bincount(minlength=10).min() > 0


# --- few of them --------------------------------------------------------------------------------------------------


def test_what_a_seed_chooses_of_fewer_is_among_what_it_chooses_of_more():
    train, _ = load_images("digits")
    everything, many, some = (seeded_subset(train, count, seed=3) for count in (len(train), 700, 100))
    assert torch.equal(some.images, many.images[:100])
    assert torch.equal(many.labels, everything.labels[:700])
    assert {image.numpy().tobytes() for image in everything.images} == {
        image.numpy().tobytes() for image in train.images
    }


def test_each_seed_has_digits_of_its_own():
    train, _ = load_images("digits")
    one, again, other = (
        {image.numpy().tobytes() for image in seeded_subset(train, 200, seed).images} for seed in (0, 0, 1)
    )
    assert one == again
    assert len(one & other) < 100


@pytest.mark.parametrize("count", [100, 900, 1352])
def test_few_digits_are_each_shown_as_often_as_all_are(count):
    train, _ = load_images("digits")
    few = seeded_subset(train, count, 0)
    assert (len(few), few.repeats) == (count, train.repeats)


# --- the others' files --------------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    """An idx file of uint8 values: big-endian magic and sizes, then the bytes."""
    return np.array([0x800 + values.ndim, *values.shape], ">u4").tobytes() + values.tobytes()


@pytest.fixture
def small_source(tmp_path, monkeypatch):
    """A folder with files of 12 and 6 digits where 60,000 and 10,000 belong, sound as far as the reader knows."""
    random = np.random.default_rng(0)
    for name in ("mnist", "kmnist"):
        monkeypatch.setitem(SOURCES[name], "counts", (12, 6))
    md5 = {}
    for folder in ("MNIST", "KMNIST"):
        for name in FILES:
            count = 12 if name.startswith("train") else 6
            shape = (count, 28, 28) if "images" in name else (count,)
            path = tmp_path / folder / "raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(idx(random.integers(0, 10, shape, np.uint8)))
            md5[folder, name] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(digits_module, "_MNIST_MD5", {name: md5["MNIST", name] for name in FILES})
    return tmp_path


@pytest.fixture
def no_download(monkeypatch):
    """A machine without a network."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        monkeypatch.setattr(torchvision.datasets, name, fail)


def test_files_are_read_as_they_were_written(small_source, no_download):
    train, test = load_images("kmnist", str(small_source))
    assert (len(train), len(test), train.repeats) == (12, 6, 1)
    for split, prefix in ((train, "train"), (test, "t10k")):
        raw = small_source / "KMNIST/raw"
        assert idx(split.images[:, 0].numpy()) == (raw / f"{prefix}-images-idx3-ubyte").read_bytes()
        assert idx(split.labels.numpy().astype(np.uint8)) == (raw / f"{prefix}-labels-idx1-ubyte").read_bytes()


def test_a_named_folder_goes_before_the_variable_and_the_variable_before_the_cache(small_source, monkeypatch):
    looked_in = []

    def look(root: str, download: bool) -> None:
        looked_in.append(Path(root))
        raise OSError("not here")

    monkeypatch.setattr(torchvision.datasets, "KMNIST", look)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere/cache")
    monkeypatch.setenv("STN_TRAIN_DATA", "/nowhere/variable")
    monkeypatch.setenv("HOME", "/nowhere/home")
    for root in ("/nowhere/named", "~/named", None):
        with pytest.raises(UserError):
            load_images("kmnist", root)
    monkeypatch.delenv("STN_TRAIN_DATA")
    with pytest.raises(UserError):
        load_images("kmnist")
    expected = ("named", "home/named", "variable", "cache/stn-train")
    assert looked_in == [Path("/nowhere", each) for each in expected]


def flip_a_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def other_magic(content: bytes) -> bytes:
    return b"\x00\x00\x09" + content[3:]


def other_count(content: bytes) -> bytes:
    return content[:7] + bytes([content[7] - 1]) + content[8:]


def dotted(name: str) -> str:
    return name.replace("-idx", ".idx")


@pytest.mark.parametrize("source", ["mnist", "kmnist"])
@pytest.mark.parametrize(
    "spell",
    [
        lambda name: f"{name}.gz",
        dotted,
        lambda name: f"{dotted(name)}.gz",
        lambda name: f"{name}.gz" if "images" in name else dotted(name),
    ],
    ids=["gzipped", "with a dot", "both", "some of each"],
)
@pytest.mark.parametrize("packed", [None, True, False], ids=["as named", "all gzipped", "none gzipped"])
def test_gzipped_or_named_with_a_dot_they_are_the_same_and_nothing_is_written(
    small_source, no_download, source, spell, packed
):
    expected = load_images(source, str(small_source))
    raw = small_source / source.upper() / "raw"
    for name in FILES:
        path = (raw / name).rename(raw / spell(name))
        if packed or (packed is None and path.suffix == ".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    before = sorted(raw.iterdir())
    raw.chmod(0o555)
    for split, wanted in zip(load_images(source, str(small_source)), expected, strict=True):
        assert torch.equal(split.images, wanted.images)
        assert torch.equal(split.labels, wanted.labels)
    assert sorted(raw.iterdir()) == before


@pytest.mark.parametrize("source", ["mnist", "kmnist"])
@pytest.mark.parametrize(
    ("lie_in", "root"),
    [("{}/raw", "."), ("{}/raw", "{}"), ("{}/raw", "{}/raw"), ("{}", "."), ("raw", "."), (".", ".")],
)
def test_the_root_may_be_the_folder_of_the_files_or_one_above(
    small_source, no_download, monkeypatch, source, lie_in, root
):
    expected = load_images(source, str(small_source))
    lie_in, root = (small_source / "mine" / place.format(source.upper()) for place in (lie_in, root))
    lie_in.parent.mkdir(parents=True, exist_ok=True)
    (small_source / source.upper() / "raw").rename(lie_in)
    monkeypatch.chdir(root)
    for named in (str(root), "."):
        for split, wanted in zip(load_images(source, named), expected, strict=True):
            assert torch.equal(split.images, wanted.images)


@pytest.mark.parametrize("root", ["MNIST", "MNIST/raw"])
def test_a_folder_named_for_another_source_is_not_this_ones(small_source, no_download, root):
    with pytest.raises(UserError, match=r"^kmnist is not in .* and could not be downloaded"):
        load_images("kmnist", str(small_source / root))


def test_mnists_digits_are_taken_for_no_other_source(small_source):
    raw = small_source / "KMNIST/raw"
    shutil.rmtree(raw)
    shutil.copytree(small_source / "MNIST/raw", raw)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte is MNIST's and not kmnist's; "):
        load_images("kmnist", str(small_source))


def test_where_no_name_fits_the_wanted_ones_and_those_found_are_told(small_source, no_download):
    raw = small_source / "MNIST/raw"
    for name in FILES[:2]:
        (raw / name).rename(raw / f"my-{name}")
    with pytest.raises(UserError) as caught:
        load_images("mnist", str(small_source))
    found = ", ".join(sorted([*FILES[2:], *(f"my-{name}" for name in FILES[:2])]))
    assert f"(no route to host): {raw} has {found}, not {', '.join(FILES)}, each with or without .gz; " in str(
        caught.value
    )


@pytest.mark.parametrize("shape", [(12, 32, 32), (500, 28, 28), (3, 5), (12, 28, 28, 3), (70_000,)])
def test_a_file_of_ones_own_is_refused(small_source, shape):
    path = small_source / "KMNIST/raw/train-images-idx3-ubyte"
    for pack in (bytes, gzip.compress):
        path.write_bytes(pack(idx(np.zeros(shape, np.uint8))))
        with pytest.raises(UserError, match=r"is not kmnist's: .* 12 x 28 x 28 .*images of your own") as caught:
            load_images("kmnist", str(small_source))
        assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", [name for name in FILES if "labels" in name])
@pytest.mark.parametrize("label", [10, 11, 255])
def test_a_label_that_there_is_not_is_refused_with_its_file_and_image(small_source, name, label):
    path = small_source / "KMNIST/raw" / name
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([label]) + content[-1:])
    with pytest.raises(UserError) as caught:
        load_images("kmnist", str(small_source))
    image = 10 if name.startswith("train") else 4
    assert str(caught.value).startswith(
        f"{path} is damaged: image {image}, counted from 0, has the label {label}, and labels are from 0 to 9; "
    )


def test_only_what_was_downloaded_is_to_be_deleted(small_source, monkeypatch):
    monkeypatch.delenv("STN_TRAIN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_source / "cache"))
    shutil.copytree(small_source / "KMNIST", small_source / "cache/stn-train/KMNIST")
    for root, mend in ((None, "delete it to have it downloaded again"), (small_source, "put kmnist's own file there")):
        raw = (root or small_source / "cache/stn-train") / "KMNIST/raw"
        for damage in (b"", idx(np.zeros((3, 3), np.uint8)), gzip.compress(b"words")[:-1], b"\x1f\x8bno gzip"):
            (raw / FILES[0]).write_bytes(damage)
            with pytest.raises(UserError, match=f"{FILES[0]} .*; {mend}"):
                load_images("kmnist", root and str(root))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("source", "damage"),
    [
        ("mnist", flip_a_bit),
        ("mnist", lambda content: content[:-1]),
        ("kmnist", lambda content: content[:-1]),
        ("kmnist", lambda content: content + b"\x00"),
        ("kmnist", lambda content: b""),
        ("kmnist", other_magic),
        ("kmnist", other_count),
        ("kmnist", lambda content: gzip.compress(content)[:-9]),
        ("kmnist", lambda content: flip_a_bit(gzip.compress(content))),
        ("mnist", lambda content: gzip.compress(flip_a_bit(content))),
        ("kmnist", lambda content: gzip.compress(content + bytes(10**8))),
    ],
    ids=[
        *("a flipped bit", "mnist cut short", "cut short", "too long", "empty", "another magic", "another count"),
        *("gzipped cut short", "gzipped a flipped bit", "a flipped bit gzipped", "far too long gzipped"),
    ],
)
def test_a_damaged_file_is_refused_by_name(small_source, source, damage, name):
    path = small_source / source.upper() / "raw" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="is damaged") as caught:
        load_images(source, str(small_source))
    assert str(path) in str(caught.value)


def test_mnist_itself_is_read_and_one_flipped_bit_of_it_refused(tmp_path, mnist_folder):
    train, test = load_images("mnist", str(mnist_folder))
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for name in FILES:
        (tmp_path / "MNIST/raw" / name).symlink_to(mnist_folder / "MNIST/raw" / name)
    damaged = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(flip_a_bit(content))
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte is damaged"):
        load_images("mnist", str(tmp_path))


@pytest.mark.parametrize("error", [URLError("no route to host"), TimeoutError(), IncompleteRead(b"")], ids=repr)
def test_without_a_network_one_sentence_says_what_to_do(tmp_path, monkeypatch, error):
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fail)
    with pytest.raises(UserError) as caught:
        load_images("mnist", str(tmp_path / "misspelt/name"))
    assert list(tmp_path.iterdir()) == []
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in (f"mnist is not in {tmp_path}", "could not be downloaded", "--data-root", "STN_TRAIN_DATA"):
        assert part in sentence
    assert "no route to host" in sentence or not isinstance(error, URLError)

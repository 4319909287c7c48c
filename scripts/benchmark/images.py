"""Rows about making images: an epoch's, from drawing the parameters to the last batch, as a training reads them."""

import multiprocessing
from collections.abc import Callable
from contextlib import closing
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmark.rows import Row, Setting, Target
from benchmark.timing import Work, side_by_side
from stn_train.data.datasets import OnlineDataset
from stn_train.data.distortion import Distortion, distortion_family, sample_distortion
from stn_train.data.images import ImageSet
from stn_train.geometry import MatrixFamily, ThinPlateSpline
from stn_train.specs import DIGIT, DatasetSpec

_BATCH = 256
_BATCHES = 60
WORKERS = 2


class PilDigits(Dataset[tuple[Any, int]]):
    """Digits as torchvision's data sets give them: an image of PIL's at a time, transformed, and its label."""

    def __init__(self, digits: ImageSet, transform: Callable[[Image.Image], Any]) -> None:
        self.digits = digits
        self.transform = transform

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        image = Image.fromarray(self.digits.images[number, 0].numpy())
        return self.transform(image), int(self.digits.labels[number])


def _epochs(setting: Setting, name: str, digits: ImageSet) -> Work:
    """Makes the images of one epoch after another, as a training does."""
    data = OnlineDataset(DatasetSpec.model_validate(name), digits.to(setting.runtime.device))
    epochs = count()

    def epoch() -> None:
        for _ in data.batches(0, next(epochs), _BATCH):
            pass

    return epoch


def _against_torchvision(setting: Setting) -> list[float]:
    """The baseline distorts PIL images on the same canvas in the same ranges, bilinearly, in worker processes."""
    digits = setting.digits.subset(torch.arange(_BATCHES * _BATCH))
    spec = DatasetSpec.model_validate("rts")
    assert spec.rotation is not None
    margin = (spec.canvas[0] - DIGIT) // 2
    placed = ImageSet(F.pad(digits.images, [margin] * 4), digits.labels)
    share = margin / spec.canvas[0]
    distort = transforms.RandomAffine(
        spec.rotation, (share, share), spec.scale, interpolation=transforms.InterpolationMode.BILINEAR
    )
    dataset = PilDigits(placed, transforms.Compose([distort, transforms.ToTensor()]))
    loader = DataLoader(dataset, _BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True)

    def baseline() -> None:
        for _ in loader:
            pass

    pairs = side_by_side(_epochs(setting, "rts", digits), baseline, 5, setting.clock)
    return [pair.speedup for pair in pairs]


def _against_opencv(setting: Setting) -> list[float]:
    """The baseline warps image after image by OpenCV, with ready matrices, in as many processes as there are threads.

    Each makes float32 batches of the bytes, and keeps them: nothing is sent anywhere.
    """
    import cv2

    digits = setting.digits.subset(torch.arange(_BATCHES * _BATCH))
    spec = DatasetSpec.model_validate("rts")
    matrices = maps_for_opencv(spec, sample_distortion(spec, digits, 0, "train")[0], (DIGIT, DIGIT))
    parts, images = torch.get_num_threads(), digits.images[:, 0].numpy()
    _shares[:] = [(images[part::parts], matrices[part::parts], spec.canvas) for part in range(parts)]
    cv2.setNumThreads(1)
    with closing(multiprocessing.get_context("fork").Pool(parts)) as pool:

        def baseline() -> None:
            pool.map(_warp_share, range(parts), chunksize=1)

        pairs = side_by_side(_epochs(setting, "rts", digits), baseline, 9, setting.clock)
    return [pair.speedup for pair in pairs]


_shares: list[tuple[NDArray[np.uint8], NDArray[np.float64], tuple[int, int]]] = []
"""What processes of OpenCV's find when they are forked: images, their maps, and the canvas's size."""


def _warp_share(part: int) -> None:
    import cv2

    images, matrices, (height, width) = _shares[part]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for start in range(0, len(images), _BATCH):
        some = zip(images[start : start + _BATCH], matrices[start : start + _BATCH], strict=True)
        warped = np.stack([cv2.warpAffine(image, matrix, (width, height), flags=flags) for image, matrix in some])
        np.multiply(warped, np.float32(1 / 255), dtype=np.float32)


def maps_for_opencv(spec: DatasetSpec, drawn: Distortion, frame: tuple[int, int]) -> NDArray[np.float64]:
    """A distortion's maps, M x 2 x 3, in pixels, whose first has its centre at (0, 0), as OpenCV wants them."""
    theta = drawn.theta.double().view(-1, 2, 3).numpy()
    half_frame, half_canvas = np.array(frame[::-1]) / 2, np.array(spec.canvas[::-1]) / 2
    linear = theta[:, :, :2] * half_frame[:, None] / half_canvas
    shift = theta[:, :, 2] * half_frame + half_frame - 0.5 - linear @ (half_canvas - 0.5)
    return np.concatenate([linear, shift[:, :, None]], axis=2)


def _against_sampling(name: str) -> Callable[[Setting], list[float]]:
    """The baseline samples ready digits, channel by channel, as often as an epoch has batches."""

    def measure(setting: Setting) -> list[float]:
        spec = DatasetSpec.model_validate(name)
        digits = setting.digits.subset(torch.arange(_BATCHES * _BATCH))
        draws = sample_distortion(spec, digits, 0, "train")
        bare = [_bare(spec, digits, drawn, setting.runtime.device) for drawn in draws]

        def baseline() -> None:
            for _ in range(_BATCHES):
                for sample in bare:
                    sample()

        pairs = side_by_side(_epochs(setting, name, digits), baseline, 9, setting.clock)
        return [pair.slowdown for pair in pairs]

    return measure


def _bare(spec: DatasetSpec, digits: ImageSet, drawn: Distortion, device: torch.device) -> Work:
    """Samples one batch: on a grid of `affine_grid` for RTS, else on a ready one, after the product that P and E need.

    A projective grid is a product of every pixel's (x, y, 1), and a spline's one of every pixel's weights, of which
    the values do not matter here.
    """
    size = spec.canvas
    sources = digits.images[drawn.digit[:_BATCH]].to(device).float() / 255
    family, theta = distortion_family(spec), drawn.theta[:_BATCH].to(device)
    ready = family.grid(theta, size)
    if spec.name == "rts":
        affine = theta.view(-1, 2, 3)
        return lambda: _sample(sources, F.affine_grid(affine, [_BATCH, 1, *size], align_corners=False))
    entries: Tensor | None = None
    if isinstance(family, ThinPlateSpline):
        entries = family.points_of(theta)
    elif isinstance(family, MatrixFamily) and family.projective:
        entries = family.matrix(theta).mT
    if entries is None:
        return lambda: _sample(sources, ready)
    factors, columns = torch.rand(size[0] * size[1], entries.shape[1], device=device), entries
    return lambda: (factors @ columns, _sample(sources, ready))


def _sample(sources: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(sources, grid, align_corners=False)


_PRODUCT = {"p": "a matrix product and grid_sample", "e": "a matrix product and grid_sample"}

ROWS = (
    Row(
        "images/rts-torchvision",
        f"torchvision's RandomAffine on PIL images, {WORKERS} workers",
        Target("at least", 12),
        _against_torchvision,
    ),
    Row(
        "images/rts-opencv", "OpenCV's warpAffine, a process for each thread", Target("at least", 1.5), _against_opencv
    ),
    Row("images/rts", "affine_grid and grid_sample", Target("at most", 1.25), _against_sampling("rts")),
    *(
        Row(f"images/{name}", _PRODUCT.get(name, "grid_sample"), Target("at most", 1.5), _against_sampling(name))
        for name in ("p", "e", "tc", "addition")
    ),
)

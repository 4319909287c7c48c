"""What the tests of the guide's formulas share: the formulas as the pages have them, and evaluating them."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stn_train.geometry import (
    bilinear_sampler,
)

TEXT = "".join(path.read_text() for path in sorted((Path(__file__).parents[2] / "docs/guide/en").glob("*.md")))
FORMULAS = {tag: formula for formula, tag in re.findall(r"\$\$([^$]*?\\tag\{(.*?)\}[^$]*)\$\$", TEXT)}
"""The numbered formulas of all pages, as LaTeX, by their numbers; the other language has the same."""


def evaluates(*tags: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a test as that of the formulas with these numbers; test_guide_pages.py asks that none is left out."""
    assert set(tags) <= FORMULAS.keys()
    return lambda test: test


def matrices(number: str, **values: Any) -> list[Tensor]:
    """The matrices that stand in a formula, evaluated: entries are sums of products of numbers, names, sine, cosine."""

    def entry(written: str) -> float:
        words = re.findall(r"\\frac\{1\}\{\\rho\}|\\\w+|t_x|t_y|\d+|[a-z]|[-+]", written.replace(r"\varphi", ""))
        total, sign, product = 0.0, 1.0, None
        for word in (*words, "+"):
            if word in "+-":
                total += 0.0 if product is None else sign * product
                sign, product = (1.0 if word == "+" else -1.0), None
            else:
                known = {r"\frac{1}{\rho}": 1 / values.get("rho", 1.0)}
                known |= {rf"\{name}": value for name, value in values.items()} | values
                product = (1.0 if product is None else product) * float(known.get(word, word))
        return total

    if "phi" in values:
        values |= {"sin": math.sin(values["phi"]), "cos": math.cos(values["phi"])}
    bodies = re.findall(r"\\begin\{pmatrix\}(.*?)\\end\{pmatrix\}", FORMULAS[number], re.DOTALL)
    return [
        torch.tensor([[entry(cell) for cell in row.split("&")] for row in body.split(r"\\")], dtype=torch.float64)
        for body in bodies
        if not re.search(r"_s|_t\b", body)
    ]


def one(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def linear(family: Any, *numbers: float, aspect: float = 1.0) -> Tensor:
    """The upper left 2 x 2 of a family's matrix."""
    return family.matrix(one(*numbers), aspect)[0, :2, :2]


def close(found: Tensor, expected: Tensor, atol: float = 1e-12) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=atol)


def read(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """What the project's sampler reads in an image, H x W, at pixel coordinates u and v of any shape."""
    height, width = image.shape
    points = torch.stack([(2 * u + 1) / width - 1, (2 * v + 1) / height - 1], dim=-1)
    return bilinear_sampler(image[None, None], points.reshape(1, 1, -1, 2)).view(u.shape)


def tent(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def kernel_sum(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Formula 4.4, for one point."""
    rows, columns = (torch.arange(count, dtype=torch.float64) for count in image.shape)
    return (image * tent(v - rows)[:, None] * tent(u - columns)).sum()

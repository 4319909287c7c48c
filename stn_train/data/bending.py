"""How a canvas is bent after a digit was placed on it: projectively by its corners, or elastically by a spline.

Everything here maps target to source, from the bent canvas to the one before, in normalised coordinates of the canvas.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from stn_train.data.randomness import Source, Subject
from stn_train.geometry import apply_matrix, thin_plate_spline
from stn_train.specs import CornersSpec, ElasticSpec

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ROUNDS = 100
_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def elastic_places(spec: ElasticSpec, canvas: tuple[int, int], count: int, source: Source) -> Array:
    """Where the control points, regular on the bent canvas, are read: M x n² x 2."""
    regular = np.array(thin_plate_spline(spec.control).identity).reshape(-1, 2)
    moves = source.stream(Subject.BEND).standard_normal((count, len(regular), 2))
    return regular + moves * spec.spread * _pixel(canvas)


def corner_matrices(spec: CornersSpec, canvas: tuple[int, int], ink: Array, source: Source) -> Array:
    """The projective maps, M x 3 x 3, that read the canvas's corners where they were before they moved.

    `ink` (M x K x 2) is what law `inside` keeps on the canvas. What a law refuses is drawn again, for every image at
    once, so that none depends on the others; after 100 rounds the last draw stays.
    """

    def moved(attempt: int) -> Array:
        moves = source.stream(Subject.BEND, attempt).standard_normal((len(ink), 4, 2)) * spec.spread * _pixel(canvas)
        return _CORNERS + (np.sign(_CORNERS) * np.abs(moves) if spec.law == "outward" else moves)

    corners = moved(0)
    refused = np.arange(len(ink) if spec.law in ("convex", "inside") else 0)
    for attempt in range(1, _ROUNDS):
        keep = _convex(corners[refused])
        if spec.law == "inside":
            keep &= _stays(corners[refused], ink[refused], canvas)
        refused = refused[~keep]
        if len(refused) == 0:
            break
        corners[refused] = moved(attempt)[refused]
    return homographies(corners)


def _pixel(canvas: tuple[int, int]) -> Array:
    """A pixel's width and height in normalised coordinates."""
    return np.array([2 / canvas[1], 2 / canvas[0]])


def _convex(corners: Array) -> Flags:
    """Whether quadrilaterals, M x 4 x 2, turn the same way at every corner, clockwise as seen."""
    sides = np.roll(corners, -1, axis=1) - corners
    following = np.roll(sides, -1, axis=1)
    turns: Flags = sides[..., 0] * following[..., 1] - sides[..., 1] * following[..., 0] > 0
    return np.asarray(turns.all(axis=1))


def _stays(moved: Array, ink: Array, canvas: tuple[int, int]) -> Flags:
    forwards = np.linalg.inv(homographies(moved))
    there = apply_matrix(torch.from_numpy(forwards), torch.from_numpy(ink)).numpy()
    inside: Flags = np.abs(there) <= 1 - _pixel(canvas) / 2
    return np.asarray(inside.all(axis=(1, 2)))


def homographies(moved: Array) -> Array:
    """The matrices, M x 3 x 3 with 1 as their last entry, that send `moved`, M x 4 x 2, to the canvas's corners.

    Eight equations for eight entries: a x + b y + c - (g x + h y) u = u for each corner (x, y) and its place (u, v),
    and the same for v.
    """
    ones, zeros = np.ones((len(moved), 4, 1)), np.zeros((len(moved), 4, 3))
    point = np.concatenate([moved, ones], axis=2)
    upper = np.concatenate([point, zeros, -moved * _CORNERS[:, :1]], axis=2)
    lower = np.concatenate([zeros, point, -moved * _CORNERS[:, 1:]], axis=2)
    places = np.broadcast_to(np.concatenate([_CORNERS[:, 0], _CORNERS[:, 1]])[:, None], (len(moved), 8, 1))
    entries = np.linalg.solve(np.concatenate([upper, lower], axis=1), places)[..., 0]
    return np.concatenate([entries, ones[:, 0]], axis=1).reshape(-1, 3, 3)

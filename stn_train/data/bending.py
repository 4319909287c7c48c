"""How a canvas is bent after a digit was placed on it: projectively by its corners, or elastically by a spline.

Everything here maps target to source, from the bent canvas to the one before, in normalised coordinates of the canvas.
"""

import numpy as np
from numpy.typing import NDArray

from stn_train.data.randomness import Source, Subject
from stn_train.geometry import thin_plate_spline
from stn_train.specs import CornersSpec, ElasticSpec

Array = NDArray[np.float64]

_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def elastic_places(
    spec: ElasticSpec, canvas: tuple[int, int], count: int, source: Source, subject: Subject = Subject.BEND
) -> Array:
    """Where the control points, regular on the bent canvas, are read: M x n² x 2."""
    regular = np.array(thin_plate_spline(spec.control).identity).reshape(-1, 2)
    moves = source.stream(subject).standard_normal((count, len(regular), 2))
    return regular + moves * spec.spread * _pixel(canvas)


def corner_matrices(spec: CornersSpec, canvas: tuple[int, int], count: int, source: Source) -> Array:
    """The projective maps, M x 3 x 3, that read the canvas's corners where they were before they moved."""
    moves = source.stream(Subject.BEND).standard_normal((count, 4, 2)) * spec.spread * _pixel(canvas)
    return homographies(_CORNERS + (np.sign(_CORNERS) * np.abs(moves) if spec.outward else moves))


def _pixel(canvas: tuple[int, int]) -> Array:
    """A pixel's width and height in normalised coordinates."""
    return np.array([2 / canvas[1], 2 / canvas[0]])


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

"""Transform families: how parameters theta become a map, and a sampling grid, from target to source."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stn_train.geometry.grid import apply_matrix, matrix_grid, precise, projective_grid


@dataclass(frozen=True)
class Family(ABC):
    """A family of transforms, target to source: a name and the theta of its identity.

    Everywhere `aspect` is width over height of the image that is read: where it is not 1, a normalised unit is longer
    along one axis, and what turns or measures distances has to take that into account.
    """

    name: str
    identity: tuple[float, ...]

    @property
    def parameters(self) -> int:
        """How many numbers theta holds: p."""
        return len(self.identity)

    @abstractmethod
    def points(self, theta: Tensor, target: Tensor, aspect: float = 1.0) -> Tensor:
        """Where points go: N x M x 2 for theta, N x p, and `target`, M x 2 or N x M x 2; all normalised."""

    @abstractmethod
    def inverse_points(self, theta: Tensor, source: Tensor, aspect: float = 1.0) -> Tensor:
        """The target points, N x M x 2, that go to `source`, M x 2 or N x M x 2; all normalised."""

    @abstractmethod
    def grid(self, theta: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Tensor:
        """The sampling grid for theta, N x p, and output size (H, W): N x H x W x 2, normalised source coordinates.

        It is where `points` sends the centres of the output's pixels, computed faster.
        """


@dataclass(frozen=True)
class MatrixFamily(Family):
    """A family whose maps are 3 x 3 matrices.

    `to_matrix(theta)` gives the matrices (N x 3 x 3) for parameters theta (N x p), and `from_matrix` theta for
    matrices of the family; None where theta cannot be read off them. Both speak of a frame whose two axes have the same
    unit, half the image's height, unless `normalised`: then of normalised coordinates, whatever the aspect.
    """

    to_matrix: Callable[[Tensor], Tensor]
    from_matrix: Callable[[Tensor], Tensor] | None
    normalised: bool = False
    projective: bool = False

    @precise
    def matrix(self, theta: Tensor, aspect: float = 1.0) -> Tensor:
        """The matrices, N x 3 x 3, for theta, N x p, in normalised coordinates."""
        return self._reframed(self.to_matrix(theta), aspect)

    def points(self, theta: Tensor, target: Tensor, aspect: float = 1.0) -> Tensor:
        """See Family."""
        return apply_matrix(self.matrix(theta, aspect), target)

    def inverse_points(self, theta: Tensor, source: Tensor, aspect: float = 1.0) -> Tensor:
        """See Family. Raises torch.linalg.LinAlgError where there is no inverse."""
        return apply_matrix(torch.linalg.inv(self.matrix(theta, aspect)), source)

    def grid(self, theta: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Tensor:
        """See Family."""
        return (projective_grid if self.projective else matrix_grid)(self.matrix(theta, aspect), size)

    @property
    def closure(self) -> "MatrixFamily":
        """The family in which the inverses and compositions of this one lie.

        Itself but of shears, whose is the affine one, and of projective maps, whose is that of all homographies: what
        one of them sends the middle of its target to may lie behind the other's horizon.
        """
        if self.projective:
            return HOMOGRAPHY
        return self if self.from_matrix else AFFINE

    @precise
    def inverse(self, theta: Tensor, aspect: float = 1.0) -> Tensor:
        """Theta, N x p of the `closure`, of the inverse maps. Raises torch.linalg.LinAlgError where there is none."""
        return self.closure.theta_of(torch.linalg.inv(self.matrix(theta, aspect)), aspect)

    @precise
    def compose(self, outer: Tensor, inner: Tensor, aspect: float = 1.0) -> Tensor:
        """Theta, N x p of the `closure`, of first `inner`, then `outer`, both N x p: x -> outer(inner(x)).

        An image that is sampled through `outer`, and the result through `inner`, is sampled through this.
        """
        return self.closure.theta_of(self.matrix(outer, aspect) @ self.matrix(inner, aspect), aspect)

    @precise
    def theta_of(self, matrix: Tensor, aspect: float = 1.0) -> Tensor:
        """Theta, N x p, of normalised matrices, N x 3 x 3, that belong to this family.

        Raises TypeError for a family that has no way back from its matrices, and ValueError for projective ones with a
        matrix whose last entry is not positive: HOMOGRAPHY has that.
        """
        if self.from_matrix is None:
            raise TypeError(f"theta of the family {self.name} cannot be read off a matrix; its closure's can")
        return self.from_matrix(self._reframed(matrix, 1 / aspect))

    def _reframed(self, matrix: Tensor, aspect: float) -> Tensor:
        """A matrix of the frame with equal units in the normalised one; with 1 / aspect, the way back."""
        if aspect == 1.0 or self.normalised:
            return matrix
        unit = matrix.new_tensor([aspect, 1.0, 1.0])
        return matrix * unit / unit[:, None]


def _matrix(*entries: Tensor | float) -> Tensor:
    """N x 3 x 3 matrices from their entries row by row, each N or one number; six entries leave the last row 0 0 1."""
    like = next(entry for entry in entries if isinstance(entry, Tensor))
    nine = entries if len(entries) == 9 else (*entries, 0.0, 0.0, 1.0)
    columns = [entry if isinstance(entry, Tensor) else torch.full_like(like, entry) for entry in nine]
    return torch.stack(columns, dim=-1).view(-1, 3, 3)


def _translation(theta: Tensor) -> Tensor:
    x, y = theta.unbind(-1)
    return _matrix(1.0, 0.0, x, 0.0, 1.0, y)


def _scale(theta: Tensor) -> Tensor:
    (s,) = theta.unbind(-1)
    return _matrix(s, 0.0, 0.0, 0.0, s, 0.0)


def _rotation(theta: Tensor) -> Tensor:
    (angle,) = theta.unbind(-1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return _matrix(cos, -sin, 0.0, sin, cos, 0.0)


def _angle(matrix: Tensor) -> Tensor:
    return torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])[:, None]


def _shear(theta: Tensor) -> Tensor:
    horizontal, vertical = theta.unbind(-1)
    return _matrix(1.0, horizontal, 0.0, vertical, 1.0, 0.0)


def _attention(theta: Tensor) -> Tensor:
    s, x, y = theta.unbind(-1)
    return _matrix(s, 0.0, x, 0.0, s, y)


def _similarity(theta: Tensor) -> Tensor:
    a, b, x, y = theta.unbind(-1)
    return _matrix(a, -b, x, b, a, y)


def _affine(theta: Tensor) -> Tensor:
    return _matrix(*theta.unbind(-1))


def _projective(theta: Tensor) -> Tensor:
    return _matrix(*theta.unbind(-1), 1.0)


def _projective_theta(matrix: Tensor) -> Tensor:
    last = matrix[:, 2, 2]
    if not bool((last > 0).all()):
        raise ValueError(
            f"a matrix whose last entry is {last.min():.4g} has the middle of its target behind the horizon, or on it; "
            "theta of the projective family, 8 numbers, cannot say that, and theta of HOMOGRAPHY, 9 numbers, can"
        )
    return (matrix / matrix[:, 2:, 2:]).flatten(1)[:, :8]


def _homography(theta: Tensor) -> Tensor:
    return theta.view(-1, 3, 3)


@dataclass(frozen=True)
class _Entries:
    """Reads theta off the entries of matrices at these places; not a closure, so that families can be pickled."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def __call__(self, matrix: Tensor) -> Tensor:
        return matrix[:, self.rows, self.columns]


TRANSLATION = MatrixFamily("translation", (0.0, 0.0), _translation, _Entries((0, 1), (2, 2)))
"""theta = (t_x, t_y): source = target + t."""
SCALE = MatrixFamily("scale", (1.0,), _scale, _Entries((0,), (0,)))
"""theta = (s): source = s target. Below 1 the output shows a smaller part, enlarged."""
ROTATION = MatrixFamily("rotation", (0.0,), _rotation, _angle)
"""theta = (angle in radians): source = R(angle) target, clockwise as seen."""
SHEAR = MatrixFamily("shear", (0.0, 0.0), _shear, None)
"""theta = (h, v): source = (x + h y, v x + y)."""
ATTENTION = MatrixFamily("attention", (1.0, 0.0, 0.0), _attention, _Entries((0, 0, 1), (0, 2, 2)))
"""theta = (s, t_x, t_y): source = s target + t (paper, equation 2)."""
SIMILARITY = MatrixFamily("similarity", (1.0, 0.0, 0.0, 0.0), _similarity, _Entries((0, 1, 0, 1), (0, 0, 2, 2)))
"""theta = (a, b, t_x, t_y): source = (a x - b y, b x + a y) + t: scaled by |(a, b)|, turned by atan2(b, a)."""
AFFINE = MatrixFamily(
    "affine",
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    _affine,
    _Entries((0, 0, 0, 1, 1, 1), (0, 1, 2, 0, 1, 2)),
    normalised=True,
)
"""theta = the matrix's two upper rows, one after the other (paper, equation 1)."""
PROJECTIVE = MatrixFamily(
    "projective",
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
    _projective,
    _projective_theta,
    normalised=True,
    projective=True,
)
"""theta = the matrix's entries row by row, but for the last, which is 1: the middle of the target is in front of the
horizon."""
HOMOGRAPHY = MatrixFamily(
    "homography",
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    _homography,
    _Entries((0, 0, 0, 1, 1, 1, 2, 2, 2), (0, 1, 2) * 3),
    normalised=True,
    projective=True,
)
"""theta = all nine entries of the matrix row by row, whose positive multiples are one map: inverses and compositions of
projective maps, also where the middle of the target is behind the horizon. Not for a transformer to predict."""

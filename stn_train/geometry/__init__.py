"""Transform families, their grids and the sampler: one geometry for distorting and for undoing.

The convention of the whole project:

- **Coordinates** are (x, y), x to the right and y downwards. *Normalised* coordinates run from -1 to 1 between the
  outer **edges** of an image's outer pixels (`align_corners=False`), whatever its size. The centre of pixel column c of
  W is at x = (2 c + 1) / W - 1. *Centred pixels* have their origin in the image's centre and one pixel as their unit,
  so that normalised x is 2 / W times as many centred pixels.
- **Direction**: a transform maps **target** to **source**. Target is what comes out, source is what is read:
  (x_s, y_s) = T_theta(x_t, y_t) (paper, equation 1). To turn an image clockwise by a, its grid turns by -a.
- **Rotation** by a positive angle turns clockwise as seen on the screen, since y runs downwards.
- **Matrices** are 3 x 3, homogeneous, acting on columns (x, y, 1). The third coordinate that they give is the depth:
  positive in front of the horizon. So a matrix and its negative are not one map: they show opposite sides of it.
- **Precision**: float32 or wider, also of what comes in bfloat16 or is computed under autocast.
"""

from stn_train.geometry.families import (
    AFFINE,
    ATTENTION,
    HOMOGRAPHY,
    PROJECTIVE,
    ROTATION,
    SCALE,
    SHEAR,
    SIMILARITY,
    TRANSLATION,
    Family,
    MatrixFamily,
    bilinear_sampler,
    ink_place,
    pixel_centres,
    pixel_grid,
    precise,
)
from stn_train.geometry.tps import ThinPlateSpline, thin_plate_spline

TPS = thin_plate_spline(4)
"""The paper's thin plate splines, of 4 x 4 control points."""
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (TRANSLATION, SCALE, ROTATION, SHEAR, ATTENTION, SIMILARITY, AFFINE, PROJECTIVE, TPS)
}
"""Every family that a transformer can predict, by name."""

__all__ = [
    "AFFINE",
    "ATTENTION",
    "FAMILIES",
    "HOMOGRAPHY",
    "PROJECTIVE",
    "ROTATION",
    "SCALE",
    "SHEAR",
    "SIMILARITY",
    "TPS",
    "TRANSLATION",
    "Family",
    "MatrixFamily",
    "ThinPlateSpline",
    "bilinear_sampler",
    "ink_place",
    "pixel_centres",
    "pixel_grid",
    "precise",
    "thin_plate_spline",
]

"""In which precision coordinates are computed: in float32 or wider, whatever the network around them computes in."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import reduce, wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which what is computed with `tensor` keeps its precision, on any device.

    Also on `meta`, where shapes are found without computing, and which knows no autocast.
    """
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def precise(compute: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """`compute` in the widest type of the tensors that it is given, float32 at least, also under autocast.

    In bfloat16 a coordinate would be off by a tenth of a pixel.
    """

    @wraps(compute)
    def widened(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)

        def wide(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) else value

        with without_autocast(tensors[0]):
            return compute(*map(wide, args), **{name: wide(value) for name, value in kwargs.items()})

    return widened

"""Muon: momentum whose directions are all made equally long, for the weights of hidden layers.

Keller Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024); the factor by which a step
is as long as one of AdamW's is that of Liu and others, "Muon is Scalable for LLM Training" (arXiv:2502.16982).
"""

from typing import Any, cast

import torch
from torch import Tensor

_MOMENTUM = 0.95
_STEPS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LIKE_ADAMW = 0.2
"""The root mean square of a step of AdamW's, in units of the rate."""


class Muon(torch.optim.AdamW):
    """Muon for the groups of parameters with `orthogonal` set, AdamW for the others.

    A filter of a convolution is a row of a matrix. The gradients of the orthogonal groups are used up by a step.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of both kinds."""
        for group in self.param_groups:
            if group["orthogonal"]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._turn(weight, weight.grad, group["lr"], group["weight_decay"])
                        weight.grad = None
        return super().step(closure)

    def _turn(self, weight: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # AdamW, which takes up what was saved, wants one of every parameter
        momentum = state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        direction = orthogonalised(torch.lerp(gradient, momentum, _MOMENTUM).flatten(1))
        length = _LIKE_ADAMW * max(direction.shape) ** 0.5
        weight.mul_(1 - rate * decay).add_(direction.view_as(weight), alpha=-rate * length)


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix with the singular vectors of `matrix` and singular values near 1, between about 0.7 and 1.2.

    But for those below a few thousandths of the matrix's norm, which grow, and not as far. By a polynomial of
    degree five, five times over (Newton and Schulz), in bfloat16; the result is as `matrix` in type.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.mT
    turned = (wide / wide.norm().clamp(min=1e-7)).bfloat16()
    for _ in range(_STEPS):
        square = turned @ turned.mT
        turned = torch.addmm(turned, torch.addmm(square, square, square, beta=b, alpha=c), turned, beta=a)
    return cast(Tensor, (turned if wide is matrix else turned.mT).to(matrix.dtype))

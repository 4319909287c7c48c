"""In which precision a network computes: bfloat16 where the hardware does, else float32."""

from typing import Literal

import torch

from stn_train.specs import TrainingSpec

Precision = Literal["bfloat16", "float32"]


def precision_on(device: torch.device, recipe: TrainingSpec) -> Precision:
    """The precision that a recipe means on a device.

    `auto` is bfloat16 on a GPU that supports it and on a CPU with instructions for it: elsewhere it is emulated, and
    slower than float32.
    """
    if recipe.precision == "float32":
        return "float32"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # torch has no public name for these yet.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        native = device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return "bfloat16" if native else "float32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which networks compute in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")

"""Trained networks as files that need nothing of ours: ONNX, a program exported by PyTorch, or weights alone.

Each maps images, N x C x H x W, float32 from 0 to 1 and any number of them, to `logits` and, for each transformer in
the order of the forward pass, its `theta` (`theta_1`, ...) and what it puts out, `warped` (`warped_1`, ...). A file is
written after it was read again and compared with the network.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from stn_train.errors import UserError, check_installed, first_line
from stn_train.evaluation.classify import recorded_warps
from stn_train.experiment.load import Trained
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.trial import network_of
from stn_train.models.own import line_of
from stn_train.run_folder import numbered
from stn_train.storage import write

OPSET = 18
_BATCHES = (1, 2, 61)
"""How many images a file and the network are compared on, each time: the batch has to be free."""
_CLOSE = 1e-3
"""The largest difference from the network that is rounding: a share of its largest output, or of 1."""

Program = Callable[[Tensor], tuple[Tensor, ...]]
"""What a file that was read again makes of images."""


@dataclass(frozen=True)
class Exported:
    """A file that was written. `shapes`: of the images and of each output, by name; N is the batch.

    `difference` is the largest between what the file and what the network made of so many `images`.
    """

    path: Path
    shapes: dict[str, tuple[str | int, ...]]
    images: int
    difference: float


class WithWarps(nn.Module):
    """A network that also puts out what its transformers do: see the module."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits, N x classes; every theta, N x p; everything that was warped, N x C x h x w."""
        return tuple(self.named(images).values())

    def named(self, images: Tensor) -> dict[str, Tensor]:
        """The same by name."""
        with recorded_warps(self.network) as warps:
            outputs = {"logits": self.network(images)}
        outputs |= numbered("theta", [warp.theta for warp in warps])
        return outputs | numbered("warped", [warp.output for warp in warps])


def export(trained: Trained, path: Path) -> Exported:
    """Write a network, which is on the CPU, to `path`, whose ending is one of FORMATS.

    Raises UserError where a package is missing, where the network has to be given true poses, and where torch cannot
    export a part of the user's.
    """
    trial = trained.trial
    if trial.model.pose == "oracle":
        raise UserError(
            f"{trained.checkpoint}: {trial.model.name} is given the true pose of each image, which a file cannot know; "
            "export another model"
        )
    packages, make = FORMATS[path.suffix]
    check_installed(f"export to {path.suffix}", packages, "export")
    network = WithWarps(trained.network.requires_grad_(False).eval())
    size = (trial.channels, *trial.dataset.canvas)
    batches = [torch.rand(count, *size, generator=torch.Generator().manual_seed(count)) for count in _BATCHES]
    answers = [network.named(batch) for batch in batches]
    shapes = {name: ("N", *found.shape[1:]) for name, found in {"images": batches[0], **answers[0]}.items()}
    try:
        with _quiet():
            content, program = make(trained, network, shapes)
            differences = [_difference(program(batch), answer) for batch, answer in zip(batches, answers, strict=True)]
    except Exception as error:  # whatever torch, or code of the user's, raises
        if not trial.model.own_parts:
            raise
        raise UserError(
            f"{trained.checkpoint}: {trial.model.name} cannot be exported to {path.suffix}: "
            f"{first_line(error)}{line_of(trial.model, error)}"
        ) from error
    write(path, content)
    return Exported(path, shapes, sum(_BATCHES), max(differences))


def metadata(trained: Trained, shapes: dict[str, tuple[str | int, ...]]) -> dict[str, str]:
    """What a file says of itself, as JSON by key."""
    trial = trained.trial
    said = {
        "classes": trial.class_names,
        "preparation": {"dtype": "float32", "range": [0, 1], "layout": "NCHW", "ink": "bright on black"},
        "shapes": shapes,
        "versions": {"stn-train": version("stn-train"), "torch": torch.__version__},
        "epochs": trained.epoch,
        "trial": trial.model_dump(mode="json"),
    }
    return {key: json.dumps(value) for key, value in said.items()}


# --- the formats ------------------------------------------------------------------------------------------------------


def _exported(network: nn.Module, shapes: dict[str, tuple[str | int, ...]]) -> torch.export.ExportedProgram:
    """The program that a network runs, for batches of any size."""
    images = torch.rand(2, *(int(length) for length in shapes["images"][1:]))
    return torch.export.export(network, (images,), dynamic_shapes={"images": {0: torch.export.Dim("N")}}, strict=False)


def _onnx(trained: Trained, network: nn.Module, shapes: dict[str, tuple[str | int, ...]]) -> tuple[bytes, Program]:
    import onnx
    import onnxruntime

    names = list(shapes)[1:]
    program = torch.onnx.export(
        _exported(network, shapes),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=names,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata(trained, shapes))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda images: tuple(map(torch.from_numpy, session.run(names, {"images": images.numpy()})))


def _pt2(trained: Trained, network: nn.Module, shapes: dict[str, tuple[str | int, ...]]) -> tuple[bytes, Program]:
    buffer = io.BytesIO()
    torch.export.save(_exported(network, shapes), buffer, extra_files=metadata(trained, shapes))
    content = buffer.getvalue()
    return content, torch.export.load(io.BytesIO(content)).module()


def _safetensors(
    trained: Trained, network: nn.Module, shapes: dict[str, tuple[str | int, ...]]
) -> tuple[bytes, Program]:
    from safetensors import torch as safetensors

    state = trained.network.state_dict()
    tensors = {name: each.clone(memory_format=torch.contiguous_format) for name, each in state.items()}
    content = safetensors.save(tensors, metadata(trained, shapes))
    again = network_of(trained.trial, Runtime(torch.device("cpu")))
    again.load_state_dict(safetensors.load(content))
    return content, WithWarps(again.eval())


FORMATS = {
    ".onnx": (("onnx", "onnxscript", "onnxruntime"), _onnx),
    ".pt2": ((), _pt2),
    ".safetensors": (("safetensors",), _safetensors),
}
"""By a file's ending: the packages that are needed, and what makes its bytes and, of these, a program again."""


def _difference(found: tuple[Tensor, ...], wanted: dict[str, Tensor]) -> float:
    """The largest difference. Raises ValueError where it is more than rounding."""
    differences = []
    for one, (name, other) in zip(found, wanted.items(), strict=True):
        differences.append(float((one - other).abs().max()))
        if not differences[-1] <= _CLOSE * max(float(other.abs().max()), 1.0):
            raise ValueError(f"{name} of the file differs from the network's by {differences[-1]:.2g}")
    return max(differences)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, what exporters say of their own progress is not heard."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

"""A page on which one moves a digit by hand and watches networks answer: one file, which needs nothing else.

The networks run in the page. `layers_of` takes one apart into plain values, which templates/network.js computes with;
templates/demo.js is what one sees and touches. What they share is written as JSON, arrays in it as base64.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor, nn

from stn_train.data.datasets import FixedDataset, make_fixed_dataset
from stn_train.data.images import ImageSet
from stn_train.errors import UserError
from stn_train.evaluation.alignment import is_singular, maps_of, poses_of
from stn_train.evaluation.classify import recorded_warps
from stn_train.evaluation.metrics import trained_range
from stn_train.geometry import Family, MatrixFamily, ThinPlateSpline, bilinear_sampler
from stn_train.models.blocks import Convolution
from stn_train.models.equivariant import ANGLES, NEAR, RADII, REACH, AngularConvolution, EquivariantLocalisation
from stn_train.models.insert import Transformed
from stn_train.models.localisation_parts import SpatialSoftArgmax
from stn_train.models.network import Network
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer, ThetaHead
from stn_train.report.page import environment
from stn_train.report.plots import OUTLINES
from stn_train.specs import TrialSpec, baseline_of

Layer = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]

MOST_BYTES = 4_500_000
"""Of a page's networks, in base64; the first model with a transformer and its baseline are there whatever they need."""
_TITLE = "Move the digit"
_OF_EACH_CLASS = 6
_LOOKED_AT = 500
"""How many digits tell where a transformer usually puts them."""
_FRAMES = 16
"""At most so many epochs of a training; of more, some are left out."""


@dataclass(frozen=True)
class Shown:
    """A trained network as the page shows it, none where the user's code that it has may not be run.

    `training`: the arrays of its training's pictures (see run_folder).
    """

    trial: TrialSpec
    network: Network | None
    training: Arrays | None = None


class LeftOutError(UserError):
    """A network that is left out of the page, with the reason: mostly a layer that the page cannot compute."""


# --- a network as plain values ----------------------------------------------------------------------------------------


def layers_of(module: nn.Module) -> list[Layer]:
    """The layers of a network in evaluation mode, in the order in which they follow one another; see network.js.

    Batch normalisation becomes a factor and a summand for each channel, and what leaves numbers as they are is left
    out. Raises LeftOutError for a layer that is not one of our models'.
    """
    if type(module) is nn.Sequential:
        return [layer for part in module for layer in layers_of(part)]
    if type(module) is Transformed:
        return layers_of(module.transformer) + layers_of(module.module)
    if type(module) in (nn.Flatten, nn.Identity):
        return []
    return [{"kind": _kind(module), **_values(module)}]


_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    Convolution: "conv",
    AngularConvolution: "conv",
    nn.BatchNorm1d: "scale",
    nn.BatchNorm2d: "scale",
    nn.ReLU: "relu",
    nn.MaxPool2d: "max_pool",
    nn.AvgPool2d: "average_pool",
    nn.Linear: "linear",
    ThetaHead: "linear",
    SpatialSoftArgmax: "soft_argmax",
    EquivariantLocalisation: "equivariant",
    SpatialTransformer: "transformer",
    ParallelTransformers: "parallel",
}


def _kind(module: nn.Module) -> str:
    """The layer's name in network.js: of these very classes, since one that inherits may compute something else."""
    plain = not isinstance(module, nn.Conv2d) or (module.padding_mode, module.dilation) == ("zeros", (1, 1))
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        plain = module.kernel_size == module.stride and module.padding == 0 and not module.ceil_mode
    elif isinstance(module, SpatialTransformer):
        plain = module.sampler is bilinear_sampler
    if type(module) not in _KINDS or not plain or isinstance(getattr(module, "padding", None), str):
        raise LeftOutError(f"it has a layer that this page cannot compute: {type(module).__name__}")
    return _KINDS[type(module)]


def _values(module: nn.Module) -> Layer:
    """What the layer computes with."""
    match module:
        case nn.Conv2d():
            wraps = isinstance(module, AngularConvolution)
            padding = (int(module.padding[0]), module.kernel_size[1] // 2 if wraps else int(module.padding[1]))
            return {
                "filters": module.out_channels,
                "groups": module.groups,
                "size": module.kernel_size,
                "stride": module.stride,
                "padding": padding,
                "wraps": wraps,
                "weight": module.weight,
                "bias": module.bias,
            }
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            assert module.running_var is not None
            assert module.running_mean is not None
            factor = module.weight / (module.running_var + module.eps).sqrt()
            return {"factor": factor, "summand": module.bias - module.running_mean * factor}
        case nn.MaxPool2d() | nn.AvgPool2d():
            return {"size": module.kernel_size}
        case nn.Linear():
            bias = module.bias + module.identity if isinstance(module, ThetaHead) else module.bias
            return {"outputs": module.out_features, "weight": module.weight, "bias": bias}
        case EquivariantLocalisation():
            polar = {
                "polar": (RADII, ANGLES),
                "points": module.points,
                "reach": REACH,
                "near": NEAR,
                "rotates": module.rotates,
            }
            return {**polar, "layers": layers_of(module.network)}
        case SpatialTransformer():
            return {
                "family": _family(module.family),
                "localisation": layers_of(module.localisation),
                "size": module.output_size,
                "supersampling": module.supersampling,
            }
        case ParallelTransformers():
            return {"transformers": [_values(each) for each in module.transformers]}
    return {}


def _family(family: Family) -> Layer:
    """A family as network.js needs it."""
    known = {"name": family.name, "identity": family.identity}
    if isinstance(family, ThinPlateSpline):
        return {**known, "control_points": family.control_points}
    if not isinstance(family, MatrixFamily):
        raise LeftOutError(f"this page cannot compute its family {family.name}")
    rows = {"numbers": family.numbers.split(), "entries": family.entries.split()}
    return {**known, **rows, "normalised": family.normalised, "projective": family.projective}


# --- what the page shows ----------------------------------------------------------------------------------------------


def demo_page(shown: Sequence[Shown], digits: ImageSet) -> str:
    """The page of some models of one dataset, with a few of these digits.

    The first model with a transformer and its baseline come first; others follow as far as there is room. What is left
    out is told on the page. Raises UserError where nothing is left.
    """
    dataset = shown[0].trial.dataset
    fixed, *_ = make_fixed_dataset(dataset, digits.subset(torch.arange(min(len(digits), _LOOKED_AT))), "test")
    models: list[Layer] = []
    left_out: dict[str, str] = {}
    room = MOST_BYTES
    for each in _pair_first(shown):
        try:
            model = _model(each, fixed)
            needs = len(_json(model))
            if len(models) >= 2 and needs > room:
                raise LeftOutError("it would make this page too large")
        except LeftOutError as error:
            left_out[each.trial.model.name] = str(error)
            continue
        models.append(model)
        room -= needs
    if not models:
        raise UserError("; ".join(f"the demo cannot show {name}: {why}" for name, why in left_out.items()))
    watched = {each.trial.model.name: _frames(each.training) for each in shown if each.training is not None}
    name, training = next(iter(watched.items()), (None, None))
    data = {
        "models": models,
        "dataset": dataset.model_dump(mode="json") | {"rotation": trained_range(shown[0].trial, "rotation")},
        "frame": tuple(digits.images.shape[1:]),
        "names": shown[0].trial.class_names,
        "digits": _few(digits),
        "outlines": OUTLINES,
        "training": training,
    }
    made = environment()
    page = made.get_template("demo.html.j2").render(
        title=_TITLE,
        css=_source(made, "demo.css"),
        scripts=[_source(made, name) for name in ("network.js", "demo_image.js", "demo_view.js", "demo.js")],
        data=Markup(_json(data)),
        trial=shown[0].trial,
        names=[model["name"] for model in models],
        windows=any(model["front"] for model in models),
        left_out=left_out,
        drawn=name,
    )
    return made.get_template("page.html.j2").render(title=_TITLE, body=Markup(page))


def _pair_first(shown: Sequence[Shown]) -> list[Shown]:
    """The baseline of the first model with a transformer, that model, and then the others."""
    models = tuple(each.trial.model for each in shown)
    transformed = next((model for model in models if model.transformer is not None), models[0])
    pair = [baseline_of(transformed, models), transformed]
    return sorted(shown, key=lambda each: pair.index(each.trial.model) if each.trial.model in pair else len(pair))


def _model(shown: Shown, fixed: FixedDataset) -> Layer:
    """A network as `answer` in network.js takes it, and where its transformers usually put digits."""
    network, model = shown.network, shown.trial.model
    if network is None:
        raise LeftOutError("it has a part of your own, whose code is run only with --allow-imports")
    front = [] if network.transformer is None else layers_of(network.transformer)
    return {
        "name": model.name,
        "front": front,
        "classifier": layers_of(network.classifier),
        "coordinates": network.coordinates,
        "tta_angles": model.tta_angles,
        "transforms": model.transformer is not None,
        "given": model.pose == "oracle",
        "usual": _usual_poses(network, shown.trial, fixed),
    }


@torch.no_grad()
def _usual_poses(network: Network, trial: TrialSpec, fixed: FixedDataset) -> list[list[float] | None]:
    """How digits usually lie in what each transformer at the input puts out: rotation, scale, aspect, shear, x and y.

    Rotation in degrees, and x and y in pixels, of an output whose frame is as large as the digits'; as `partsOf` in
    demo.js takes a pose apart, and their means over the images. None where they have no mean.
    """
    transformer = network.transformer
    if trial.dataset.addition or transformer is None or network.pose == "oracle":
        return []
    with recorded_warps(transformer) as warps:
        transformer(fixed.images.float() / 255)
    in_a_row, frame = isinstance(transformer, nn.Sequential), (fixed.sources.shape[-2], fixed.sources.shape[-1])
    found: list[list[float] | None] = []
    for number, warp in enumerate(warps):
        chain = warps[: number + 1] if in_a_row else [warp]
        stages, thetas = [one.transformer for one in chain], [one.theta for one in chain]
        maps = maps_of(trial.dataset, stages, fixed.theta, thetas, frame)
        _, poses = poses_of(maps)
        found.append(None if is_singular(poses) else _mean_parts(torch.linalg.inv(poses), maps[0].half))
    return found


def _mean_parts(poses: Tensor, half: Tensor) -> list[float]:
    """The means of rotation, scale, aspect, shear, x and y of poses, M x 3 x 3, from a digit's pixels to normalised.

    `half`: half of its frame's width and height.
    """
    (a, b, x), (c, d, y) = (poses[:, row].unbind(-1) for row in (0, 1))
    wide, angle = torch.hypot(a, c), torch.atan2(c, a)
    tall = (a * d - b * c) / wide
    scale, aspect = (wide * tall).abs().sqrt() * half.prod().sqrt(), (wide / tall).abs()
    rotation = torch.rad2deg(torch.atan2(angle.sin().mean(), angle.cos().mean()))
    means = [scale.log().mean().exp(), aspect.log().mean().exp(), ((a * b + c * d) / wide**2).mean()]
    return [float(mean) for mean in (rotation, *means, x.mean() * half[0], y.mean() * half[1])]


def _few(digits: ImageSet) -> list[Layer]:
    """The first digits of each class."""
    return [
        {"label": label, "image": digits.images[number]}
        for label in digits.labels.unique().tolist()
        for number in (digits.labels == label).nonzero()[:_OF_EACH_CLASS, 0]
    ]


def _frames(training: Arrays) -> Layer:
    """The pictures of a training, epoch by epoch."""
    kept = np.unique(np.linspace(0, len(training["epoch"]) - 1, _FRAMES).round().astype(int))
    steps = [name for name in training if name not in ("image", "label")]
    size = {"height": training["image"].shape[-2], "width": training["image"].shape[-1]}
    out = {"output_height": training["output"].shape[-2], "output_width": training["output"].shape[-1]}
    frames = [{name: training[name][frame] for name in steps} for frame in kept]
    return {**size, **out, "image": training["image"], "label": training["label"], "frames": frames}


# --- the file ---------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """An array as JSON has it: by the name of its type, in base64."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    kind = "uint8" if array.dtype == np.uint8 else "int32" if array.dtype.kind in "iu" else "float32"
    return {kind: base64.b64encode(array.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()}


def _json(data: Layer) -> str:
    """Data as JSON that can stand within a page."""
    return json.dumps(data, default=_plain).replace("<", "\\u003c")


def _source(made: Environment, name: str) -> Markup:
    """A file beside the templates, as it is."""
    assert made.loader is not None
    return Markup(made.loader.get_source(made, name)[0])

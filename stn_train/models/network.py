"""Networks: a classifier with what stands at its input, in which precision it computes, and how it is built.

It is built from a model's specification, its width fitted to a parameter budget.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stn_train.errors import UserError, first_line
from stn_train.geometry import FAMILIES, HOMOGRAPHY, Family, bilinear_sampler, pixel_grid, precise, thin_plate_spline
from stn_train.models.blocks import by, check_images
from stn_train.models.classifiers import CLASSIFIERS, Classifier
from stn_train.models.localisation import LOCALISATIONS, Localisation, bounded, frozen
from stn_train.models.own import line_of, load_classifier, load_family, load_localisation
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer
from stn_train.specs import ModelSpec, Pose, TrainingSpec

if TYPE_CHECKING:
    from stn_train.models.equivariant import EquivariantLocalisation, Templates

TOLERANCE = 0.02
_MOST_EIGHTHS = 40_000
_PLACES = (4, 4)

Precision = Literal["bfloat16", "float32"]
Image = tuple[int, int, int]
"""Channels, height and width."""


class Network(nn.Module):
    """A `classifier` and, where there is one, the `transformer` at its input: one, several in parallel, or in a row.

    `pose` says where the transformer's theta comes from: the localisation network, which learns from the classifier's
    loss (`predicted`), stays at the identity (`identity`) or learns from true poses alone (`supervised`); or true poses
    that are passed with the images (`oracle`). All but the first are controls, of a single transformer. With
    `coordinates`, the classifier reads two channels more: where in the image, x and y, each pixel was sampled
    (CoordConv; Liu et al., arXiv:1807.03247), or, `canonical`, the same along the output's axes: see `along_output`.
    `angle_noise`, in degrees: see `with_pose_loss`.
    """

    def __init__(
        self,
        transformer: nn.Module | None,
        classifier: nn.Module,
        pose: Pose = "predicted",
        coordinates: bool | Literal["canonical"] = False,
        angle_noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.classifier = classifier
        self.pose = pose
        self.coordinates = coordinates
        self.angle_noise = angle_noise
        if pose == "predicted":
            return
        assert isinstance(transformer, SpatialTransformer)
        if pose == "identity":
            transformer.localisation.requires_grad_(False)
        elif pose == "oracle":
            transformer.localisation, transformer.family = nn.Identity(), HOMOGRAPHY

    def front(self, images: Tensor, poses: Tensor | None = None) -> Tensor:
        """What the transformer puts out, N x C' x h x w, of images, N x C x H x W: what the classifier reads of them.

        `poses`: their true poses, theta N x 9 of all homographies, target to source. Only an oracle uses them; without
        them it stays at the identity.
        """
        if self.transformer is None:
            return images
        read: Tensor = self.transformer(images, *([self._true_poses(images, poses)] if self.pose == "oracle" else []))
        return read

    def _true_poses(self, images: Tensor, poses: Tensor | None) -> Tensor:
        """The poses that an oracle is given, or the identity for each image."""
        if poses is None:
            poses = torch.tensor([HOMOGRAPHY.identity]).expand(images.shape[0], -1)
        return poses.to(images.device)

    def forward(self, images: Tensor, poses: Tensor | None = None) -> Tensor:
        """Logits, N x classes, of images and their true poses: see `front`."""
        if not self.coordinates:
            logits: Tensor = self.classifier(self.front(images, poses))
            return logits
        assert isinstance(self.transformer, SpatialTransformer)
        given = self._true_poses(images, poses) if self.pose == "oracle" else self.transformer.localisation(images)
        return self.with_theta(images, given)

    def with_theta(self, images: Tensor, theta: Tensor) -> Tensor:
        """Logits, N x classes, of images warped by theta, N x p, whatever the localisation network would say.

        Of a network with a single transformer, at its input.
        """
        assert isinstance(self.transformer, SpatialTransformer)
        read: Tensor = self.transformer(images, theta)
        if self.coordinates:
            aspect = images.shape[-1] / images.shape[-2]
            grid = self.transformer.family.grid(theta, self.transformer.output_size, aspect)
            if self.coordinates == "canonical":
                grid = along_output(grid, aspect)
            read = torch.cat([read, grid.movedim(-1, 1).to(read.dtype)], dim=1)
            read = read.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier(read)
        return logits

    def with_pose_loss(
        self,
        images: Tensor,
        poses: Tensor | None = None,
        labels: Tensor | None = None,
        templates: "Templates | None" = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits as of `forward`, and the loss of a localisation network that learns from it alone.

        One that is supervised learns from the images' true `poses`; an equivariant one from the `templates` of their
        `labels`, by how these would have them turned. The classifier's loss sends neither a gradient. Behind an
        equivariant one it reads digits that are turned further, at random by `angle_noise` (the standard deviation): so
        it learns to read poses that are not sure.
        """
        assert isinstance(self.transformer, SpatialTransformer)
        if templates is None or labels is None:
            assert poses is not None
            theta: Tensor = self.transformer.localisation(images)
            loss = pose_loss(self.transformer.family, theta, poses, images.shape[-1] / images.shape[-2])
        else:
            localisation = cast("EquivariantLocalisation", self.transformer.localisation)
            place, polar = localisation.read(images)
            angles = localisation.angles(polar)
            turn = math.radians(self.angle_noise) * torch.randn(len(place), 1, device=place.device)
            theta = localisation.theta(place, angles, turn)
            loss = F.cross_entropy(angles, templates.turns(polar, labels))
        return self.with_theta(images, theta.detach()), loss


@precise
def along_output(grid: Tensor, aspect: float) -> Tensor:
    """Where a grid's points lie, seen from the image's middle, along the axes of the output; N x h x w x 2 as `grid`.

    In half heights of the image, whose width is `aspect` of its heights: x along the output's rows, y at right angles.
    Where the image turns about its middle, and the grid with it, they stay the same: they tell where the output lies,
    and not which way the image is turned.
    """
    x, y = (grid * grid.new_tensor([aspect, 1.0])).unbind(dim=-1)
    rows = torch.stack([x[:, :, -1] - x[:, :, 0], y[:, :, -1] - y[:, :, 0]], dim=-1).mean(dim=1)
    cosine, sine = F.normalize(rows, dim=1)[:, :, None, None].unbind(dim=1)
    return torch.stack([cosine * x + sine * y, cosine * y - sine * x], dim=-1)


def pose_loss(family: Family, theta: Tensor, poses: Tensor, aspect: float) -> Tensor:
    """How far theta, N x p of `family`, misses true poses, N x 9 of all homographies; a scalar, float32 or wider.

    Of 4 x 4 points of the output the distance from where the true pose puts them, normalised; the root of the mean
    square of an image's, and the mean of the images'. Where several poses are likely, this asks for one of them. The
    mean square would ask for their mean, which is no pose: of a digit that may lie this way or that, it is a point.
    """
    poses = poses.to(theta.device)
    places = pixel_grid(_PLACES, poses).flatten(0, 1)
    missed = family.points(theta, places, aspect) - HOMOGRAPHY.points(poses, places, aspect)
    loss: Tensor = missed.flatten(1).norm(dim=1).mean() / len(places) ** 0.5
    return loss


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


# --- from a specification to a network --------------------------------------------------------------------------------


class BudgetError(UserError):
    """No width of a model's classifier gives it the parameters that it is to have; `nearest` is what one gives."""

    def __init__(self, sentence: str, nearest: int) -> None:
        super().__init__(sentence)
        self.nearest = nearest


@dataclass(frozen=True)
class ModelSize:
    """How large a model is: its classifier's `width`, its `parameters`, and its `macs` for one image at all TTA angles.

    The width is None for a classifier that has none. `any_size` says that it takes images of other sizes, too.
    """

    width: float | None
    parameters: int
    any_size: bool
    count_macs: Callable[[], int] = field(repr=False, compare=False)

    @cached_property
    def macs(self) -> int:
        """Counted when first asked for: counting imports torch's compiler, which takes longer than to predict."""
        return self.count_macs()


def build_model(
    spec: ModelSpec, size: tuple[int, int], parameters: int | None = None, channels: int = 1, classes: int = 10
) -> Network:
    """Build a model for images of `channels` and `size` (H, W), freshly initialised from torch's generator.

    With `parameters`, the classifier's width is chosen so that the whole network, transformers included, has as many,
    within 2 %. The network refuses images of other channels, and of another size where a layer of its is made for one
    size. Raises UserError as `measure_model` does.
    """
    measured = measure_model(spec, size, parameters, channels, classes)
    width = None if parameters is None else measured.width
    classifier = CLASSIFIERS.get(spec.classifier) or load_classifier(spec.classifier)
    network = _build(spec, classifier, width, (channels, *size), classes)
    expected = None if measured.any_size else size
    network.register_forward_pre_hook(partial(check_images, "the network", channels, expected))
    return network


def measure_model(
    spec: ModelSpec, size: tuple[int, int], parameters: int | None = None, channels: int = 1, classes: int = 10
) -> ModelSize:
    """How large the network is that `build_model` builds; the same arguments are measured once.

    Raises BudgetError where no width meets the budget, and UserError where a part of the network cannot work on so
    small an image, or where a classifier of the user's cannot be had, or not be trained.
    """
    try:
        classifier = CLASSIFIERS.get(spec.classifier) or load_classifier(spec.classifier)
        measured, budgeted = _measure(spec, classifier, (channels, *size), parameters, classes)
    except (Exception, SystemExit) as error:
        reason = first_line(error)
        if not isinstance(error, UserError | RuntimeError):
            if not spec.own_parts:
                raise  # a mistake of ours
            reason = f"{type(error).__name__}: {reason}"
        raise UserError(
            f"model {spec.name} cannot be built for images of {size[0]} x {size[1]} pixels: {reason}"
            f"{line_of(spec, error)}"
        ) from error
    if parameters is not None and abs(budgeted - parameters) > TOLERANCE * parameters:
        fixed = measured.width is None
        why = "its classifier takes no width, and so it has" if fixed else "the nearest that its width allows is"
        raise BudgetError(
            f"model {spec.name} cannot have {parameters:,} parameters within {100 * TOLERANCE:g} %: {why} {budgeted:,}",
            budgeted,
        )
    return measured


@lru_cache(maxsize=1024)
def _measure(
    spec: ModelSpec, classifier: Classifier, image: Image, parameters: int | None, classes: int
) -> tuple[ModelSize, int]:
    """A model's size, and how many parameters the model has whose width it has: itself, or what it is a control of.

    Measured on the CPU, where anybody's code runs; widths are tried on `meta`, where weights take no memory.
    """
    model, ours = spec, not spec.own_parts
    if spec.transformer is not None and spec.pose != "predicted":
        model = spec.changed(transformer=spec.transformer.changed(pose="predicted"))
    has_width = inspect.signature(classifier).parameters.get("width")
    width = default = None
    if has_width is not None and parameters is not None:
        width = _fitted_width(model, classifier, image, parameters, classes)
    elif has_width is not None and has_width.default is inspect.Parameter.empty:
        raise UserError("its classifier has no default for width; give it one, or the experiment a budget: parameters")
    elif has_width is not None and isinstance(has_width.default, int | float):
        default = float(has_width.default)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        network = _build(spec, classifier, width, image, classes)
        fitted = network if model is spec else _build(model, classifier, width, image, classes)
        if not ours:
            _check_trainable(network, image, classes)
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, *image))
            try:
                network(torch.zeros(1, image[0], 2 * image[1], 2 * image[2]))
                any_size = True
            except (Exception, SystemExit):  # whatever a classifier of the user's raises
                any_size = False

    def count_macs() -> int:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
            network = _build(spec, classifier, width, image, classes).eval()
            network(torch.zeros(1, *image))  # what is computed once for all is computed before it is counted
            with FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, *image))
        return int(counter.get_total_flops()) // 2 * (1 + len(spec.tta_angles))

    count, budgeted = (sum(parameter.numel() for parameter in each.parameters()) for each in (network, fitted))
    if not ours:
        count_macs()  # now, when the user is told of what cannot be counted
    return ModelSize(default if width is None else width, count, any_size, count_macs), budgeted


def _fitted_width(spec: ModelSpec, classifier: Classifier, image: Image, parameters: int, classes: int) -> float:
    """The width, in eighths, whose network's parameter count is nearest to the budget; the count rises with it."""
    lowest, highest = 8, _MOST_EIGHTHS
    missing: dict[int, int] = {}
    while lowest < highest:
        eighths = (lowest + highest) // 2
        with torch.device("meta"):
            network = _build(spec, classifier, eighths / 8, image, classes)
        missing[eighths] = parameters - sum(parameter.numel() for parameter in network.parameters())
        if missing[eighths] > 0:
            lowest = eighths + 1
        else:
            highest = eighths
    return min((abs(missing[eighths]), eighths) for eighths in (lowest - 1, lowest) if eighths in missing)[1] / 8


def _build(spec: ModelSpec, classifier: Classifier, width: float | None, image: Image, classes: int) -> Network:
    channels, height, breadth = image
    wide = {} if width is None else {"width": width}
    transformer = spec.transformer
    if transformer is None:
        return Network(None, classifier(size=(height, breadth), channels=channels, classes=classes, **wide))
    if transformer.family == "tps":
        family: Family = thin_plate_spline(transformer.control_points)
    else:
        family = FAMILIES.get(transformer.family) or load_family(transformer.family)
    localise = LOCALISATIONS.get(transformer.localisation) or load_localisation(transformer.localisation)
    if transformer.bounds is not None:
        localise = bounded(localise, transformer.bounds)
    if transformer.freeze:
        localise = frozen(localise)
    sampler = bilinear_sampler
    if transformer.padding != "zeros":
        sampler = partial(bilinear_sampler, padding=transformer.padding)
    output = transformer.output_size
    stages: list[nn.Module] = []
    for _ in range(transformer.before.count(0)):
        # auto: the image's pixels for one of the output, of the side where there are more
        pixels = min(max(int(max(height / output[0], breadth / output[1]) + 0.5), 1), 4)
        asked = transformer.supersampling
        supersampling = pixels if isinstance(asked, str) else asked
        parallel = [
            SpatialTransformer(localise(family, (height, breadth), channels), family, output, sampler, supersampling)
            for _ in range(transformer.parallel)
        ]
        stages.append(parallel[0] if len(parallel) == 1 else ParallelTransformers(parallel))
        (height, breadth), channels = output, channels * len(parallel)
    front = (stages[0] if len(stages) == 1 else nn.Sequential(*stages)) if stages else None
    channels += 2 * bool(transformer.coordinates)
    classify = classifier(size=(height, breadth), channels=channels, classes=classes, **wide)
    network = Network(front, classify, spec.pose, transformer.coordinates, transformer.angle_noise)
    for layer in filter(None, transformer.before):
        _insert(network, family, localise, sampler, layer, image)
    return network


def _insert(
    network: Network,
    family: Family,
    localisation: Localisation,
    sampler: Callable[[Tensor, Tensor], Tensor],
    layer: int,
    image: Image,
) -> None:
    """Put a transformer before the k-th layer, the k-th part in order of definition, of the network's classifier."""
    from stn_train.models.insert import NoPlaceError, insert_transformer

    layers = [name for name, _ in network.classifier.named_children()]
    if layer >= len(layers):
        raise UserError(f"transformer.before is {layer}, and the classifier's layers are 0 to {len(layers) - 1}")
    before = f"classifier.{layers[layer]}"
    try:
        insert_transformer(
            network, image=image, before=before, family=family, localisation=localisation, sampler=sampler
        )
    except NoPlaceError as error:
        raise UserError(
            f"transformer.before is {layer}, and no transformer can stand before layer {layer} of the classifier: "
            f"{error.reason}; choose another of its layers, of which 0 is the input"
        ) from error


def _check_trainable(network: Network, image: Image, classes: int) -> None:
    """Raise UserError where a network with a part of the user's cannot be trained, or not be the control that it is."""
    if network.pose == "identity":
        assert isinstance(network.transformer, SpatialTransformer)
        identity = torch.tensor([network.transformer.family.identity])
        if not torch.allclose(network.transformer.warp(torch.rand(2, *image))[1], identity, atol=1e-6):
            raise UserError(
                "with pose identity its localisation network has to start there; let it end in stn_train.ThetaHead"
            )
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):  # what is averaged, and steps, must be
            raise UserError(f"{name} holds numbers that are not finite; a mask of such numbers has to be a buffer")
    logits = network.train()(torch.zeros(2, *image))
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
        found = by(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"its classifier puts out {found} for 2 images; expected 2 x {classes}")
    if not logits.is_floating_point():
        raise UserError(f"its classifier puts out logits of {logits.dtype}; expected floating-point numbers")
    if not logits.requires_grad:
        raise UserError("its logits depend on no parameter that can be trained")
    F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64)).backward()

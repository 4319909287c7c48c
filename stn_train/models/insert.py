"""A spatial transformer in front of, or inside, any network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from stn_train.errors import UserError, did_you_mean, first_line
from stn_train.geometry import FAMILIES, Family, bilinear_sampler
from stn_train.models.blocks import by
from stn_train.models.localisation import LOCALISATIONS, Localisation, default_localisation
from stn_train.models.transformer import SpatialTransformer

T = TypeVar("T")


class NoPlaceError(UserError):
    """No transformer can stand in front of a submodule; `reason` says why."""

    def __init__(self, before: str, reason: str) -> None:
        super().__init__(f"no transformer can stand in front of {before!r}: {reason}; name another submodule")
        self.reason = reason


class Transformed(nn.Module):
    """A module behind a spatial transformer, which warps the module's first argument."""

    def __init__(self, transformer: SpatialTransformer, module: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.module = module

    def forward(self, images: Tensor, *others: object, **named: object) -> object:
        """What the module makes of the warped images."""
        return self.module(self.transformer(images), *others, **named)


def insert_transformer(
    model: nn.Module,
    *,
    image: tuple[int, int, int],
    before: str = "",
    family: str | Family = "affine",
    localisation: str | nn.Module | Localisation | None = None,
    output_size: tuple[int, int] | None = None,
    sampler: Callable[[Tensor, Tensor], Tensor] = bilinear_sampler,
) -> nn.Module:
    """Put a spatial transformer in front of `model`, or in front of its submodule `before`.

    image: channels, height and width of an image for the model, which is run once on zeros to find what `before` gets.
    before: a submodule's name as `model.named_modules()` gives it, such as "layer1" or "features.3"; "" is the model.
    family: a family, or the name of one. localisation: the name of one of ours (conv, keypoints, conv_paper,
    fc_paper), a function f(family, size (H, W), channels) that makes one, or a module that maps N x C x H x W to theta,
    N x p; by default conv, or fc_paper where the feature map is smaller than 8 x 8. output_size: height and width of
    what the transformer puts out; by default those of what it reads, so that at the start, at the identity, the model's
    output is what it was. sampler: what reads feature maps at a grid, N x h x w x 2.

    Returns the model, changed in place: its submodule `before` is now a Transformed, whose parts are `transformer` and
    `module`. With before="" the model is left as it is and returned inside a new Transformed. Names in the model's
    state_dict change with it, so weights are loaded first. The transformer is on the device and of the type of the
    model's parameters; the localisation networks' parameters are those of modules named `localisation`.

    Raises UserError where there is no such submodule, family or localisation network, where the model does not take
    such an image, where the localisation network does not give theta for what it reads, or that is too small for it,
    and NoPlaceError where `before` is not called just once in a forward pass with a feature map of four dimensions.
    """
    place = _submodule(model, before)
    like = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.empty(0))
    channels, *size = _shape_read(model, place, before, torch.zeros(1, *image, dtype=like.dtype, device=like.device))
    height, width = size
    known = _named(family, FAMILIES, "family") if isinstance(family, str) else family
    localise = _localisation(localisation, known, (height, width), channels).to(like.device, like.dtype)
    transformer = SpatialTransformer(localise, known, output_size or (height, width), sampler)
    _try(transformer, torch.zeros(1, channels, height, width, dtype=like.dtype, device=like.device))
    transformed = Transformed(transformer.train(model.training), place)
    transformed.training = model.training
    if not before:
        return transformed
    parent, _, name = before.rpartition(".")
    setattr(model.get_submodule(parent), name, transformed)
    return model


def _named(name: str, known: dict[str, T], kind: str) -> T:
    if name not in known:
        raise UserError(f"there is no {kind} {name!r}{did_you_mean(name, known)}")
    return known[name]


def _localisation(
    given: str | nn.Module | Localisation | None, family: Family, size: tuple[int, int], channels: int
) -> nn.Module:
    """The localisation network for feature maps of this size."""
    if isinstance(given, str):
        given = _named(given, LOCALISATIONS, "localisation network")
    elif given is None:
        given = default_localisation(size)
    return given if isinstance(given, nn.Module) else given(family, size, channels)


def _try(transformer: SpatialTransformer, zeros: Tensor) -> None:
    """Raise UserError where a transformer cannot read feature maps like these."""
    try:
        with _at_rest(transformer), torch.no_grad():
            transformer(zeros)
    except UserError:
        raise
    except Exception as error:  # whatever a part of the user's raises
        raise UserError(f"a transformer of these parts cannot read {by(zeros.shape)}: {first_line(error)}") from error


def _submodule(model: nn.Module, before: str) -> nn.Module:
    """The submodule of this name. Raises UserError with the nearest names where there is none."""
    names: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if before in names:
        return names[before]
    parent = before
    while parent not in names:
        parent = parent.rpartition(".")[0]
    beside = [f"{parent}.{name}".lstrip(".") for name, _ in names[parent].named_children()]
    raise UserError(f"the model has no submodule {before!r}{did_you_mean(before, beside)}")


def _shape_read(model: nn.Module, place: nn.Module, before: str, zeros: Tensor) -> tuple[int, int, int]:
    """Channels, height and width of what `place` is given when the model runs on zeros (1 x C x H x W)."""
    shapes: list[tuple[int, ...]] = []

    def note(module: nn.Module, given: tuple[object, ...]) -> None:
        shapes.append(tuple(given[0].shape) if given and isinstance(given[0], Tensor) else ())

    hook = place.register_forward_pre_hook(note)
    try:
        with _at_rest(model), torch.no_grad():
            model(zeros)
    except Exception as error:  # whatever the model raises
        raise UserError(f"the model does not take an image of {by(zeros.shape[1:])}: {first_line(error)}") from error
    finally:
        hook.remove()
    if len(shapes) != 1:
        raise NoPlaceError(before, f"it is called {len(shapes)} times in a forward pass, not once")
    (shape,) = shapes
    if len(shape) != 4:
        found = f"a tensor of {len(shape)} dimensions" if shape else "no tensor"
        raise NoPlaceError(before, f"it gets {found}, not a feature map (N x C x H x W)")
    return shape[1], shape[2], shape[3]


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, where a forward pass changes nothing, and afterwards as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True

"""What this process computes with, device and threads, and the data that it has loaded for it."""

import contextlib
import ctypes
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from stn_train.config import load_config
from stn_train.data.datasets import (
    FixedDataset,
    OnlineDataset,
    hold_out,
    make_fixed_dataset,
    seeded_subset,
)
from stn_train.data.distortion import true_poses
from stn_train.data.images import ImageSet
from stn_train.data.sources import load_split
from stn_train.errors import UserError, first_line
from stn_train.specs import DatasetSpec, ExperimentSpec, TrialSpec
from stn_train.storage import at_home

if TYPE_CHECKING:
    from stn_train.data.prebuilt import TrainingData

PACKAGES = ("stn-train", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class Runtime:
    """Where computing happens and where data comes from: none of it is part of a trial's identity.

    `allow_imports` says that parts of the user's which a checkpoint names may be imported; `robustness`, that a trial
    measures that of its network when it has trained. `loaded` keeps what trials that follow one another share: the
    images of a split, by the source's name and checksum, the split and `data_root`; the fixed images that were
    distorted last; the code's commit; and on a worker the checkpoints that models name by `localisation_from`, as bytes
    by that name.
    """

    device: torch.device
    data_root: str | None = None
    prebuilt: str | None = None
    allow_imports: bool = False
    robustness: bool = False
    loaded: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)


def open_runtime(
    device: str | None,
    threads: int | None,
    data_root: str | None,
    prebuilt: str | None = None,
    allow_imports: bool = False,
) -> Runtime:
    """Choose the device (the GPU where there is one, NVIDIA's or Apple's) and the number of CPU threads.

    Raises UserError for a device that is not there or cannot be used, and for fewer threads than one.
    """
    # Momenta of weights that get no gradient decay into denormal numbers, on which a CPU is many times slower. Set
    # before the first parallel work, since the threads that share it take it over from this one.
    torch.set_flush_denormal(True)
    # glibc would give the memory of every large tensor back to the system, which hands it out again page by page.
    trim_threshold, mmap_max, never = -1, -4, 2**31 - 1
    with contextlib.suppress(OSError, TypeError, AttributeError):  # another C library is left as it is
        c_library = ctypes.CDLL(None)
        c_library.mallopt(mmap_max, 0)
        c_library.mallopt(trim_threshold, never)
    if threads is not None:
        if threads < 1:
            raise UserError(f"threads {threads}: expected 1 or more")
        torch.set_num_threads(threads)
    if device is None:
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return Runtime(torch.device(found), data_root, prebuilt, allow_imports)
    return Runtime(_device(device), data_root, prebuilt, allow_imports)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: there is no such device; expected cpu, cuda, cuda:1 or mps") from None
    accelerator = torch.accelerator.current_accelerator()
    gpus = [f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())] if accelerator else []
    if str(torch.device(device.type, device.index or 0)) not in ("cpu:0", *gpus):
        known = " and ".join(("cpu", *gpus))
        raise UserError(f"--device {name} cannot be used here: PyTorch {torch.__version__} finds only {known}")
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # each kind of device has errors of its own
        raise UserError(f"--device {name} cannot be used here: {first_line(error)}") from None
    return device


def lacks_operation(error: BaseException, device: torch.device) -> str | None:
    """A sentence where torch lacks on Apple's GPU what a training asks for; None for any other error."""
    if device.type != "mps" or "MPS" not in str(error) or not isinstance(error, NotImplementedError | TypeError):
        return None
    return (
        f"PyTorch {torch.__version__} cannot compute this on Apple's GPU ({first_line(error)}); add --device cpu, or "
        "set PYTORCH_ENABLE_MPS_FALLBACK=1 in the environment: then the CPU computes what the GPU cannot"
    )


def read_config(
    config: str,
    overrides: Sequence[str] = (),
    called: Mapping[str, str] | None = None,
    data_root: str | None = None,
) -> tuple[ExperimentSpec, dict[object, ImageSet]]:
    """What a configuration describes (see `load_config`), and images of the user's own, to be kept in `Runtime.loaded`.

    These are read, and what is known of them then is part of the experiment. Raises UserError for mistakes in either.
    """
    experiment = load_config(config, overrides, called)
    if experiment.source.path is None or experiment.source.classes:
        return experiment, {}
    from stn_train.data.own_images import read_images

    root = data_root or experiment.data_root
    known, train, test = read_images(experiment.source, root)
    images: dict[object, ImageSet] = {
        ("", known.checksum, "train", root): train,
        ("", known.checksum, "test", root): test,
    }
    return load_config(config, overrides, called, as_read=known), images


def load_trial_data(trial: TrialSpec, runtime: Runtime) -> "tuple[TrainingData, int, FixedDataset]":
    """What a trial trains on, how many digits that shows, and the fixed images that it reports on."""
    dataset, recipe, posed = trial.dataset, trial.training, trial.model.pose in ("supervised", "oracle")
    if runtime.prebuilt is not None:
        from stn_train.data.prebuilt import PrebuiltDataset, load_prebuilt

        prebuilt = load_prebuilt(dataset, trial.source, at_home(runtime.prebuilt))
        train, test = prebuilt["train"], prebuilt["test"]
        images, labels = train.images.to(runtime.device), train.labels.to(runtime.device)
        data = PrebuiltDataset(images, labels, true_poses(dataset, train.theta) if posed else None)
        return data, len(train.digit.unique()), test
    digits = load_digits_of(trial, "training", runtime)
    if recipe.train_size is not None:
        digits = seeded_subset(digits, recipe.train_size, trial.seed)
    end = (*recipe.restarts, recipe.epochs)[0]
    grown = min(recipe.curriculum * end, end - 1)
    turned = trial.model.rotation_augmentation
    shown = dataset if turned is None else dataset.changed(rotation=turned)
    online = OnlineDataset(shown, digits.to(runtime.device), posed, recipe.elastic_augmentation, grown)
    return online, len(digits), load_fixed(trial, dataset, runtime)


def load_fixed(trial: TrialSpec, dataset: DatasetSpec, runtime: Runtime) -> FixedDataset:
    """The fixed images of a trial's test digits (or validation digits), distorted as `dataset` has it."""
    asked = (trial.source.name, trial.source.checksum, trial.validation, runtime.data_root, dataset)
    if "fixed" not in runtime.loaded or runtime.loaded["fixed"][0] != asked:
        digits = load_digits_of(trial, "fixed", runtime)
        made, *_ = make_fixed_dataset(dataset, digits, trial.split)
        runtime.loaded["fixed"] = asked, made
    fixed: FixedDataset = runtime.loaded["fixed"][1]
    return fixed


def load_digits_of(trial: TrialSpec, part: Literal["training", "fixed"], runtime: Runtime) -> ImageSet:
    """The digits that a trial trains on, or those of its fixed images, which are its test (or validation) digits."""
    split: Literal["train", "test"] = "train" if trial.validation or part == "training" else "test"
    asked = (trial.source.name, trial.source.checksum, split, runtime.data_root)
    if asked not in runtime.loaded:
        runtime.loaded[asked] = load_split(trial.source, split, runtime.data_root)
    digits: ImageSet = runtime.loaded[asked]
    return hold_out(digits)[part == "fixed"] if trial.validation else digits


def environment(runtime: Runtime) -> dict[str, object]:
    """What a reader needs to know of the machine: versions, device, threads, commit.

    The commit is that of the checkout that this package lies in, if it lies in one; `-dirty` behind it says: and
    changes. As it was when first asked for, at the beginning of a run: what comes later does not change the code that
    runs.
    """
    if "commit" not in runtime.loaded:
        here = Path(__file__)
        git, describe = (
            ["git", "-C", str(here.parent)],
            ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        )
        runtime.loaded["commit"] = None
        with contextlib.suppress(OSError, subprocess.CalledProcessError):  # no git, or no checkout
            subprocess.check_output([*git, "ls-files", "--error-unmatch", here.name], stderr=subprocess.DEVNULL)
            head = subprocess.check_output([*git, *describe], stderr=subprocess.DEVNULL, text=True)
            runtime.loaded["commit"] = head.strip()
    device = platform.processor() or platform.machine()
    if runtime.device.type == "cuda":
        device = torch.cuda.get_device_name(runtime.device)
    else:
        with contextlib.suppress(OSError):  # where there is no such file
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
            device = names[0] if names else platform.machine()
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": device,
        "threads": torch.get_num_threads(),
        "commit": runtime.loaded["commit"],
    }

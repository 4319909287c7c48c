"""What this machine and this installation have to train with: for the user to read, and for bug reports."""

import os
import platform
import re
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, cast

import torch

from stn_train.data.images import DATA_VARIABLE, data_folder, find_files
from stn_train.experiment.runtime import environment, open_runtime
from stn_train.models.network import precision_on
from stn_train.specs import RECIPES, SOURCES, TrainingSpec

EXTRAS = {
    "tensorboard": "run --track tensorboard",
    "wandb": "run --track wandb",
    "trackio": "run --track trackio",
    "ray": "run --ray",
    "export": "stn-train export",
    "tune": "stn-train tune",
    "docs": "the documentation's pages",
    "dev": "tests and linters",
}
"""What each extra is for; one that is not here goes by its packages alone."""


def examine() -> dict[str, Any]:
    """Versions, devices, threads, data, disk and extras, as values that JSON has.

    `devices`: what --device takes, whether it computes in bfloat16, and which is used where none is named. `data`: the
    folder where sources are looked for, what named it, and for each source the folder of its files, or None.
    `free_disk`: bytes, by folder. `extras`: what each is for, which of its packages are missing, and how to install it.
    """
    runtime = open_runtime(None, None, None)
    recipe = TrainingSpec.model_validate(RECIPES["default"])
    accelerator = torch.accelerator.current_accelerator()
    gpus = [f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())] if accelerator else []
    devices, about = [], cast(dict[str, Any], environment(runtime))
    for name in ("cpu", *gpus):
        device = torch.device(name)
        hardware = environment(replace(runtime, device=device))["device"]
        used, bfloat16 = name.removesuffix(":0") == str(runtime.device), precision_on(device, recipe) == "bfloat16"
        devices.append({"name": name, "hardware": hardware, "bfloat16": bfloat16, "used": used})
    root = data_folder()
    return {
        "versions": {**about["versions"], "platform": platform.platform()},
        "commit": about["commit"],
        "devices": devices,
        "threads": about["threads"],
        "cores": os.cpu_count(),
        "data": {
            "folder": str(root),
            "named_by": DATA_VARIABLE if os.environ.get(DATA_VARIABLE) else None,
            "sources": {source: _folder_of(source, root) for source in SOURCES},
        },
        "free_disk": {str(folder): shutil.disk_usage(_existing(folder)).free for folder in (Path.cwd(), root)},
        "extras": _extras(),
    }


def _folder_of(source: str, root: Path) -> str | None:
    """The folder that holds a source's files, or the package that does; None where there are none."""
    if source == "digits":
        return "scikit-learn"
    files = find_files(source, root)
    return None if files is None else str(next(iter(files.values())).parent)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())


def _extras() -> dict[str, dict[str, Any]]:
    """Of each extra of the installed package: see `examine`."""
    packages: dict[str, list[str]] = {}
    for requirement in requires("stn-train") or ():
        package, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"]([\w-]+)", requirement)
        if package and extra and package[0] != "stn-train":
            packages.setdefault(extra[1], []).append(package[0])
    return {
        extra: {
            "for": EXTRAS.get(extra, ", ".join(names)),
            "missing": [name for name in names if not _installed(name)],
            "install": f"pip install 'stn-train[{extra}]'",
        }
        for extra, names in sorted(packages.items())
    }


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False

"""The options of commands that spread their work over processes, GPUs or the nodes of a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.errors import UserError

if TYPE_CHECKING:
    from stn_train.experiment.executors import Processes, Workers
    from stn_train.experiment.runtime import Runtime
    from stn_train.run_folder import RunFolder
    from stn_train.specs import TrialSpec

_PANEL = "Side by side"
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        metavar="N",
        help="Processes at a time; --threads is then of each, its share of all if not given.",
        rich_help_panel=_PANEL,
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME", help="Devices that the processes share evenly, as cuda:0,cuda:1.", rich_help_panel=_PANEL
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Train on a Ray cluster: local, auto or HOST:PORT of its head.", rich_help_panel=_PANEL
    ),
]
CpusPerTrial = Annotated[
    float | None,
    typer.Option(min=0.01, metavar="N", help="With --ray: as --threads, or 1, if not given.", rich_help_panel=_PANEL),
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(min=0.001, metavar="N", help="With --ray, as 0.25; none if not given.", rich_help_panel=_PANEL),
]


@dataclass(frozen=True)
class SideBySide:
    """How trials are spread, as the options say. Raises UserError for options that do not go together."""

    jobs: int | None
    devices: str | None
    ray: str | None
    cpus_per_trial: float | None
    gpus_per_trial: float | None
    device: str | None
    threads: int | None

    def __post_init__(self) -> None:
        if self.ray is None and (self.cpus_per_trial or self.gpus_per_trial):
            raise UserError("--cpus-per-trial and --gpus-per-trial go with --ray")
        if self.ray is not None and (self.jobs or self.devices or self.device):
            raise UserError(
                "--ray places the trials by itself; --jobs, --devices and --device do not go with it, but "
                "--cpus-per-trial and --gpus-per-trial do"
            )
        if self.devices and self.device:
            raise UserError("--device names one device and --devices several; give one of them")

    @property
    def count(self) -> int:
        """How many processes there are on this machine; one of each device if not given."""
        return self.jobs or len((self.devices or "").split(","))

    @property
    def where(self) -> str:
        """In words, for whoever looks on."""
        return f"the Ray cluster {self.ray}" if self.ray else f"{self.count} processes, {', '.join(self._devices())}"

    def runtime(self, data_root: str | None, prebuilt: str | None) -> "Runtime":
        """That of this process, which has as many threads as each worker. Raises UserError where a device cannot be
        used."""
        import torch

        from stn_train.experiment.runtime import open_runtime

        if self.ray is not None:
            threads = self.threads or max(int(self.cpus_per_trial or 1), 1)
            return open_runtime("cpu", threads, data_root, prebuilt)
        threads = self.threads or max(torch.get_num_threads() // self.count, 1)
        first, *_ = [open_runtime(name, threads, data_root, prebuilt) for name in self._devices()]
        return first

    def workers(self, trials: "Sequence[TrialSpec]", folder: "RunFolder", runtime: "Runtime") -> "Workers":
        """Ready for these trials of a run. Raises UserError where digits or a cluster cannot be had."""
        from stn_train.experiment.executors import Processes, Setup

        setup = Setup.of([trial for trial in trials if not folder.trial(trial).result.exists()], runtime)
        if self.ray is None:
            return Processes(self.count, self._devices(), setup)
        from stn_train.experiment.cluster import RayCluster

        cpus, gpus = self.cpus_per_trial or self.threads or 1, self.gpus_per_trial or 0
        own_code = any(trial.model.own_parts for trial in trials)
        return RayCluster(self.ray, cpus, gpus, setup, Path.cwd() if own_code else None)

    def _devices(self) -> list[str]:
        import torch

        gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        return [self.device] if self.device else self.devices.split(",") if self.devices else gpus or ["cpu"]


@contextmanager
def asked(
    jobs: int | None,
    devices: str | None,
    device: str | None,
    threads: int | None,
    data_root: str | None,
    allow_imports: bool = False,
) -> "Iterator[tuple[Runtime, Processes | None]]":
    """For a command that asks questions: this process's Runtime, and processes of this machine that answer them, unless
    one alone is wanted; they end with the block. Raises UserError for options that do not go together."""
    import torch

    from stn_train.experiment.runtime import open_runtime

    if (jobs or 1) == 1 and not devices:
        yield open_runtime(device, threads, data_root, allow_imports=allow_imports), None
        return
    from stn_train.experiment.executors import Processes, Setup
    from stn_train.experiment.questions import answer

    spread = SideBySide(jobs, devices, None, None, None, device, threads)
    runtime = replace(spread.runtime(data_root, None), allow_imports=allow_imports)
    setup = Setup(torch.get_num_threads(), runtime)
    with closing(Processes(spread.count, spread._devices(), setup, answer)) as workers:
        yield runtime, workers

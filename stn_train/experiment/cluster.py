"""Trials on the nodes of a Ray cluster: places, the way there and back, and nodes that die are Ray's."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stn_train.errors import UserError, first_line
from stn_train.experiment.executors import SECONDS, Setup, Work, work
from stn_train.experiment.runtime import PACKAGES


class RayCluster:
    """The nodes of a Ray cluster, as many trials on each as it has room for.

    `address`: `local` starts one on this machine, `auto` finds the one that this machine belongs to, or where it is.
    `code`: a folder with modules of the user's, which the nodes need. Raises UserError where there is no such cluster,
    or it has no room for a trial.
    """

    def __init__(
        self, address: str, cpus: float, gpus: float, setup: Setup, code: Path | None = None, work: Work = work
    ) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "--ray: the package ray is not installed; pip install 'stn-train[ray]' installs it"
            ) from None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        excluded = ["runs", ".git", "*.pt", "*.npz"]
        runtime_env = {"working_dir": str(code), "excludes": excluded} if code else {}
        try:
            ray.init(address, runtime_env=runtime_env, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--ray {address}: {first_line(error)}") from None
        self.ray, self.cpus, self.gpus = ray, cpus, gpus
        self.actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_concurrency=2)(_Actor)
        self.given = ray.put(setup), "cuda" if gpus else "cpu", work, versions()
        self.idle: list[Any] = []
        self.busy: dict[Any, Any] = {}
        self.heard: set[Any] = set()
        self.looked, self.places = -1.0, 0
        if not self.room():
            there = {kind: f"{ray.cluster_resources().get(kind, 0):g}" for kind in ("CPU", "GPU")}
            self.close()
            raise UserError(
                f"--ray {address}: a trial needs CPUs: {cpus:g}, GPUs: {gpus:g}, and the cluster has CPUs: "
                f"{there['CPU']}, GPUs: {there['GPU']}; change --cpus-per-trial or --gpus-per-trial"
            )

    def room(self) -> int:
        if time.monotonic() - self.looked > 1:
            there = self.ray.cluster_resources()
            shares = [(there.get("CPU", 0), self.cpus), (there.get("GPU", 0), self.gpus)]
            self.places = int(min(whole / part for whole, part in shares if part))
            self.looked = time.monotonic()
        return self.places

    def begin(self, job: Any) -> Any:
        actor = self.idle.pop() if self.idle else self.actor.remote(*self.given)
        stream = actor.run.options(num_returns="streaming").remote(job)
        self.busy[stream] = actor
        return stream

    def messages(self) -> Iterator[tuple[Any, Any]]:
        self.ray.wait([*self.busy], timeout=SECONDS)
        for stream in self.ray.wait([*self.busy], num_returns=len(self.busy), timeout=0)[0]:
            try:
                message = self.ray.get(next(stream))
                self.heard.add(stream)
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self.ray.exceptions.RayError as error:
                if "creation task" in str(error):
                    raise UserError(f"a node of the cluster cannot start a worker: {str(error).strip()}") from None
                message = None
                self.idle.clear()  # some may have been on the same node
            if message is None or message.ended:
                actor = self.busy.pop(stream)
                self.heard.discard(stream)
                if self.heard.issuperset(self.busy):
                    self.idle += [actor] if message else []
                else:
                    self.ray.kill(actor)  # another waits for its place
            yield stream, message

    def stop(self) -> None:
        for stream, actor in self.busy.items():
            if stream in self.heard:
                actor.stop.remote()
            else:
                self.ray.kill(actor)  # it waits for a place

    def close(self) -> None:
        self.ray.shutdown()


class _Actor:
    """A worker on a node; `run` and `stop` have a thread each. Raises UserError where its packages are others."""

    def __init__(self, setup: Setup, device: str, work: Work, expected: dict[str, str]) -> None:
        self.setup, self.device, self.work, self.expected = setup, device, work, expected
        self.stopping = threading.Event()

    def run(self, job: Any) -> Iterator[Any]:
        """See `work`."""
        found = versions()
        if other := [
            f"{name} {found[name]} and not {here}" for name, here in self.expected.items() if found[name] != here
        ]:
            raise UserError(f"{platform.node()}, a node of the cluster, has {', '.join(other)}; install the same there")
        yield from self.work(job, self.setup, self.device, self.stopping.is_set)

    def stop(self) -> None:
        """Have `run` save and end."""
        self.stopping.set()


def versions() -> dict[str, str]:
    """Those of the packages on which results depend."""
    return {name: version(name) for name in PACKAGES}

"""What the driver of many workers costs: pretend trials, which sleep and send results of real size.

    python scripts/driver_cost.py --workers 50 --trials 2000 --seconds 2

Everything is real but the training: locks, messages, and files that are flushed to the disk below --folder. A trial
sends what one of `mnist` does: a checkpoint after its only epoch, then its results, 2.3 MB in all. The workers are
forked, since a hundred that have imported PyTorch do not fit into a small machine; with --ray they are a cluster's.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch

from stn_train.experiment.cluster import RayCluster
from stn_train.experiment.executors import Job, Message, Processes, Setup, Workers, run_side_by_side
from stn_train.experiment.runtime import Runtime
from stn_train.run_folder import EpochRecord, RunFolder
from stn_train.specs import ExperimentSpec, trials_of
from stn_train.storage import Worker

EPOCH = {"checkpoint.pt": 1_673_122, "metrics.jsonl": 1_546, "training.npz": 73_655}
RESULTS = {
    "predictions.npz": 481_069,
    "examples.npz": 62_901,
    "means.npz": 20_779,
    "rotation_sweep.npz": 62_903,
    "alignment.json": 7_205,
    "timing.json": 235,
    "environment.json": 323,
    "result.json": 2_818,
}
"""The sizes of a trial's files, of `st_cnn_paper` in `mnist`."""


def pretend(job: Job, setup: Setup, device: str, stop: Callable[[], bool]) -> Iterator[Message]:
    """A trial that sleeps for so many seconds as `setup` has loaded under `seconds`, and sends its `files`."""
    worker = Worker(process=os.getpid(), host="pretended")
    files = setup.runtime.loaded["files"]
    yield Message(worker)
    time.sleep(setup.runtime.loaded["seconds"])
    record = EpochRecord(epoch=1, loss=0.1, error=1.0, lr=0.0, transformers=())
    yield Message(worker, {name: files[name] for name in EPOCH}, record)
    yield Message(worker, {name: files[name] for name in RESULTS}, ended=True)


def memory() -> float:
    """Of this process now, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Run pretend trials, and print what the driver took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--ray", action="store_true", help="on a local Ray cluster, with so many CPUs")
    parser.add_argument("--folder", type=Path, help="whose disk is written to; a temporary one if not given")
    asked = parser.parse_args()
    made_up = {"name": "pretend", "source": "digits", "datasets": ["rts"], "models": ["st_cnn"], "parameters": 100_000}
    first = trials_of(ExperimentSpec.model_validate(made_up | {"training": {"epochs": 1}}))[0]
    trials = [first.model_copy(update={"seed": seed}) for seed in range(asked.trials)]
    files = {name: os.urandom(size) for name, size in (EPOCH | RESULTS).items()}
    setup = Setup(1, Runtime(torch.device("cpu"), loaded={"seconds": asked.seconds, "files": files}))
    workers: Workers
    if asked.ray:
        from ray.cluster_utils import Cluster

        here = {"num_cpus": asked.workers, "include_dashboard": False}
        workers = RayCluster(Cluster(True, head_node_args=here).address, 1, 0, setup, work=pretend)
    else:
        workers = Processes(asked.workers, ["cpu"], setup, pretend)
        workers.context = multiprocessing.get_context("fork")  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch, closing(workers):
        began, seen, ended = (time.monotonic(), time.process_time()), [memory()], 0
        for progress in run_side_by_side(workers, trials, RunFolder(Path(scratch)), lambda: False):
            ended += progress.finished
            if progress.finished and ended % (len(trials) // 10) == 0:
                seen.append(memory())
        wall, cpu = time.monotonic() - began[0], time.process_time() - began[1]
    ideal = len(trials) * asked.seconds / asked.workers
    above, each = 100 * (wall / ideal - 1), 1000 * cpu / ended
    print(f"{asked.workers} workers, {ended} trials: {wall:.1f} s, {above:.1f} % above {ideal:.1f} s")
    print(f"driver: {each:.1f} ms of processor time a trial; MB {' '.join(f'{one:.0f}' for one in seen)}")


if __name__ == "__main__":
    main()

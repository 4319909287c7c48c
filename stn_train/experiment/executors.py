"""Trials side by side: on spawned processes of this machine, or on the nodes of a Ray cluster.

The driver, the process that runs `run_side_by_side`, alone writes the run's folder, and only trials whose locks it
holds. A worker trains a trial in a scratch folder of its own, and sends its files back after each epoch: a worker, or a
node, that is lost costs the epoch that it was in. Digits are sent once, from the driver; no disk is shared.
"""

import multiprocessing
import os
import pickle
import platform
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from stn_train.errors import FolderBusyError, Stopped
from stn_train.experiment.run import RunProgress, failure_of, planned
from stn_train.experiment.runtime import Runtime, environment, load_digits_of, open_runtime
from stn_train.experiment.trial import run_trial
from stn_train.run_folder import EpochRecord, RunFolder, TrialFailure, TrialFolder
from stn_train.specs import TrialSpec
from stn_train.storage import AT_WORK, Worker, at_home, busy_sentence, folder_lock, is_locked, write, write_record
from stn_train.training.checkpoint import fall_back, previous_checkpoint

LOST = 3
"""So many workers of a trial are lost in a row, without an epoch between them, before it counts as failed."""
_WRITERS = 16
"""So many trials' files are written at once."""
SECONDS = 0.2
"""So long the driver waits for messages before it looks whether it is asked to stop."""
_STOP = b"stop"


@dataclass(frozen=True)
class Job:
    """A trial for a worker, with the files of its folder that it goes on from, by name."""

    trial: TrialSpec
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Message:
    """What a worker tells of its trial: at the start, after each epoch, and when it has `ended`, however it did.

    `files` are those that it has written since the last message.
    """

    worker: Worker
    files: Mapping[str, bytes] = field(default_factory=dict)
    record: EpochRecord | None = None
    failure: TrialFailure | None = None
    ended: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether the trial has its result."""
        return "result.json" in self.files

    @property
    def is_cut_short(self) -> bool:
        """Whether its worker was stopped before."""
        return self.ended and self.failure is None and not self.is_finished


@dataclass(frozen=True)
class Setup:
    """What every worker is told once: its number of threads, and the driver's Runtime with what is loaded."""

    threads: int
    runtime: Runtime

    @staticmethod
    def of(trials: Sequence[TrialSpec], runtime: Runtime) -> "Setup":
        """For these trials, with as many threads as this process has. Raises UserError where digits cannot be had."""
        for trial in {trial.source: trial for trial in trials if runtime.prebuilt is None}.values():
            load_digits_of(trial, "training", runtime)
            load_digits_of(trial, "fixed", runtime)
        for trial in trials:
            if (started := trial.model.transformer) and started.localisation_from:
                runtime.loaded[started.localisation_from] = at_home(started.localisation_from).read_bytes()
        environment(runtime)
        prebuilt = None if runtime.prebuilt is None else str(Path(runtime.prebuilt).expanduser().absolute())
        return Setup(torch.get_num_threads(), replace(runtime, prebuilt=prebuilt))

    def runtime_on(self, device: str) -> Runtime:
        """A worker's own, on this device, for the thread that asks."""
        opened = open_runtime(device, self.threads, self.runtime.data_root)
        return replace(self.runtime, device=opened.device)


Work = Callable[[Any, Setup, str, Callable[[], bool]], Iterator[Any]]
"""What a worker does with a Job (or a Question) on a device, and tells of it; the last says whether to stop."""


def work(job: Job, setup: Setup, device: str, stop: Callable[[], bool]) -> Iterator[Message]:
    """Train a trial in a scratch folder; whatever it raises is told as its failure."""
    worker = Worker(process=os.getpid(), host=platform.node())
    yield Message(worker)
    with tempfile.TemporaryDirectory(prefix="stn-train-") as scratch:
        files = TrialFolder(Path(scratch))
        sent: dict[str, tuple[int, int]] = {}
        for name, content in job.files.items():
            (files.path / name).write_bytes(content)

        def message(**said: Any) -> Message:
            paths = [path for path in files.path.iterdir() if path != previous_checkpoint(files.checkpoint)]
            stamps = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}
            changed = {name: (files.path / name).read_bytes() for name in stamps if stamps[name] != sent.get(name)}
            sent.update(stamps)
            return Message(worker, changed, **said)

        message()  # what the driver has sent it has
        failure = None
        try:
            for record in run_trial(job.trial, files, setup.runtime_on(device), lambda epochs: stop()):
                yield message(record=record)
        except Stopped:
            pass
        except (Exception, SystemExit) as error:
            failure = failure_of(job.trial, error, torch.device(device))
        yield message(failure=failure, ended=True)


class Workers(Protocol):
    """Where jobs are done, a Job or a Question each; handles tell them apart."""

    def room(self) -> int:
        """How many jobs can be done at once."""

    def begin(self, job: Any) -> Any:
        """Give a job to a worker; its handle."""

    def messages(self) -> Iterator[tuple[Any, Any]]:
        """What has come from the workers within SECONDS, `ended` or not; None where one is lost."""

    def stop(self) -> None:
        """Ask all to save and end their jobs; then nothing is begun any more."""

    def close(self) -> None:
        """End all workers at once."""


@dataclass
class _Running:
    """A trial that a worker has; `written`: what it has told so far, in the order in which it came."""

    progress: RunProgress
    files: TrialFolder
    lock: ExitStack
    written: "Future[list[RunProgress]] | None" = None


def run_side_by_side(
    workers: Workers, trials: Sequence[TrialSpec], folder: RunFolder, stop: Callable[[], bool]
) -> Iterator[RunProgress]:
    """Run these trials on workers, in a folder that `open_run` has prepared; yields as it goes, as `run_trials` does.

    Where `stop` says so, all save and Stopped is raised. A trial whose worker is lost goes on with another, from its
    newest checkpoint. To wait for the disk takes long, so many trials are written at a time, each in its order.
    """
    waiting, asked = in_order(planned(trials, folder)), False
    running: dict[Any, _Running] = {}
    writing: deque[tuple[_Running, Message | None, Future[list[RunProgress]]]] = deque()
    lost: Counter[str] = Counter()  # workers of each trial, in all, and `fruitless`, since its last epoch
    fruitless: Counter[str] = Counter()
    try:
        with ThreadPoolExecutor(_WRITERS) as pool:
            while True:
                if not asked and stop():
                    workers.stop()
                    asked = True
                while not asked and len(running) < workers.room() and (one := _take(waiting, folder, not running)):
                    if one.files.result.exists():
                        one.lock.close()
                        yield replace(one.progress, skipped=True)
                        continue
                    if warning := fall_back(one.files.checkpoint):
                        yield replace(one.progress, warning=warning)
                    running[workers.begin(_job(one))] = one
                if not running and not writing:
                    if asked or not waiting or workers.room():
                        break
                    time.sleep(SECONDS)  # no worker is left; another may come
                for handle, message in workers.messages() if running else ():
                    one = running[handle]
                    one.written = pool.submit(_heard, one, message, lost[one.progress.trial.key], one.written)
                    writing.append((one, message, one.written))
                    if message is None or message.ended:
                        running.pop(handle)
                while writing and (not running or writing[0][2].done() or len(writing) > 2 * _WRITERS):
                    one, message, written = writing[0]
                    yield from written.result()
                    if message is not None and message.record is not None:
                        fruitless[one.progress.trial.key] = 0
                    if (message is None or message.is_cut_short) and not asked:
                        lost[one.progress.trial.key] += 1
                        fruitless[one.progress.trial.key] += 1
                        yield _lost(one, waiting, fruitless[one.progress.trial.key])
                    if message is None or message.ended:
                        one.lock.close()
                    writing.popleft()
    finally:
        for one in [*running.values(), *(one for one, *_ in writing)]:
            one.lock.close()
    if asked:
        raise Stopped
    for progress in waiting:
        yield replace(progress, busy=busy_sentence(folder.trial(progress.trial).path))


def _job(one: _Running) -> Job:
    """What a worker needs to go on with a trial."""
    kept = [path for path in (one.files.checkpoint, one.files.path / "training.npz") if path.exists()]
    return Job(one.progress.trial, {path.name: path.read_bytes() for path in kept})


def in_order(trials: Sequence[RunProgress]) -> list[RunProgress]:
    """Seeds outermost, so that a run stopped half-way has whole comparisons; within a seed the longest trial first, so
    that the last one does not hold up the rest."""
    seeds = list(dict.fromkeys(one.trial.seed for one in trials))
    return sorted(trials, key=lambda one: (seeds.index(one.trial.seed), -one.share))


def _take(waiting: list[RunProgress], folder: RunFolder, patient: bool) -> _Running | None:
    """Take the first that no other process trains, with its lock; or, without, one that has a result.

    None where there is none. Unless `patient`, nobody is given a moment to leave.
    """
    for position, progress in enumerate(waiting):
        files, lock = folder.trial(progress.trial), ExitStack()
        with suppress(FolderBusyError):
            if not files.result.exists():
                if not patient and is_locked(files.path):
                    continue
                lock.enter_context(folder_lock(files.path))
                files.failure.unlink(missing_ok=True)
            return _Running(waiting.pop(position), files, lock)
    return None


def _heard(
    one: _Running, message: Message | None, retries: int, before: "Future[list[RunProgress]] | None"
) -> list[RunProgress]:
    """Keep what a worker has sent of a trial, when what it sent before is kept; what there is to tell."""
    told = []
    if before is not None:
        before.result()
    if message is None:
        return []
    if not one.progress.worker:
        signed = message.worker.model_copy(update={"retries": retries})
        write(one.files.path / AT_WORK, signed.model_dump_json(), flush=False)
        one.progress = replace(one.progress, worker=f"{signed.host}, process {signed.process}")
        told.append(one.progress)
    _keep(one.files, message)
    if message.record is not None:
        told.append(replace(one.progress, record=message.record))
    if message.failure is not None:
        write_record(one.files.failure, message.failure.model_dump(mode="json"))
        told.append(replace(one.progress, failure=message.failure))
    elif message.is_finished:
        told.append(replace(one.progress, finished=True))
    return told


def _keep(files: TrialFolder, message: Message) -> None:
    """Write what a worker has sent, in the order in which a trial writes it: its checkpoint last, and its result."""
    last = files.checkpoint.name, files.result.name
    for name in message.files.keys() - last:
        write(files.path / name, message.files[name])
    if files.checkpoint.name in message.files:
        before = previous_checkpoint(files.checkpoint)
        write(files.checkpoint, message.files[files.checkpoint.name], before=before)
    if files.result.name in message.files:
        for path in (previous_checkpoint(files.checkpoint), files.robustness):
            if path.name not in message.files:
                path.unlink(missing_ok=True)  # as a trial does, and there was none in the worker's folder
        write(files.result, message.files[files.result.name])


def _lost(one: _Running, waiting: list[RunProgress], times: int) -> RunProgress:
    """Put a trial whose worker was lost back at the head; but not if that happens again and again."""
    where = one.progress.worker or "a process that had not begun"
    if times < LOST:
        waiting.insert(0, replace(one.progress, worker=""))
        return replace(one.progress, warning=f"{one.progress.trial.key}: its worker was lost ({where}); it goes on")
    why = f"its worker was lost {times} times without an epoch between, at last {where}; was there enough memory?"
    failure = TrialFailure(why=why)
    write_record(one.files.failure, failure.model_dump(mode="json"))
    return replace(one.progress, failure=failure)


# --- this machine ---------------------------------------------------------------------------------------------------


class Processes:
    """At most `count` spawned processes of this machine, which share `devices` evenly."""

    def __init__(self, count: int, devices: Sequence[str], setup: Setup, work: Work = work) -> None:
        self.count, self.devices, self.setup, self.work = count, devices, setup, work
        self.context = multiprocessing.get_context("spawn")
        self.processes: dict[Connection, tuple[str, Any]] = {}
        self.busy: set[Connection] = set()

    def room(self) -> int:
        return self.count

    def begin(self, job: Any) -> Connection:
        ours = next((one for one in self.processes if one not in self.busy), None)
        if ours is None:
            shared = Counter(device for device, _ in self.processes.values())
            device = min(self.devices, key=lambda one: shared[one])
            ours, theirs = self.context.Pipe()
            process = self.context.Process(target=_serve, args=(theirs, device, self.work), daemon=True)
            resource_tracker.ensure_running()  # which Python 3.11 would start below, and end the blocking
            with _blocked(signal.SIGINT):  # in the process, too, until it ignores it
                process.start()
            theirs.close()  # so that its end is heard of
            self.processes[ours] = device, process
            with suppress(OSError):
                ours.send_bytes(pickle.dumps(self.setup))
        self.busy.add(ours)
        with suppress(OSError):  # it has died; that is heard of, too
            ours.send_bytes(pickle.dumps(job))
        return ours

    def messages(self) -> Iterator[tuple[Connection, Any]]:
        for ours in [one for one in wait([*self.busy], SECONDS) if isinstance(one, Connection)]:
            try:
                message = pickle.loads(ours.recv_bytes())
            except (EOFError, OSError):
                message = None
                self.processes.pop(ours)
            if message is None or message.ended:
                self.busy.remove(ours)
            yield ours, message

    def stop(self) -> None:
        for ours in self.busy:
            with suppress(OSError):
                ours.send_bytes(_STOP)

    def close(self) -> None:
        for ours, (_, process) in self.processes.items():
            ours.close()
            process.kill()
            process.join()


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Have a signal wait, where the system can; a process that is started meanwhile inherits that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(driver: Connection, device: str, work: Work) -> None:
    """What a spawned process does: job after job, until the driver is gone.

    It stops where the driver says so, dies, or is told to end by a signal of the system's, but not on Ctrl-C, which the
    driver hears as well.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    with suppress(EOFError, OSError):
        opened: Setup = pickle.loads(driver.recv_bytes())
        while not ended:
            if not driver.poll(SECONDS):
                continue
            if (received := driver.recv_bytes()) == _STOP:
                break
            for message in work(pickle.loads(received), opened, device, lambda: bool(ended) or driver.poll()):
                driver.send_bytes(pickle.dumps(message))

"""Work that ends in one value, as to measure a network: here, one after another, or side by side on workers.

Who asks gets the answers, and alone writes them.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from stn_train.errors import FolderBusyError, Stopped, TrialError, UserError
from stn_train.experiment.executors import LOST, SECONDS, Setup, Workers
from stn_train.experiment.runtime import Runtime


@dataclass(frozen=True)
class Question:
    """What is to be found out: `ask(runtime=...)` returns it, or yields what share of the work is done and it at last.

    `key` tells it from others; `known` is the answer where nobody need be asked; `lock` is held from the question until
    who asks goes on to the next answer. For workers, `ask` has to be a `functools.partial` of a function that can be
    imported.
    """

    key: str
    ask: Callable[..., Any]
    known: Any = None
    lock: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Answer:
    """A share `done` of a question's work; when it has `ended`, its `value`, or the `error` in its place."""

    done: float = 0.0
    value: Any = None
    error: Exception | None = None
    ended: bool = False


def answers(
    questions: Iterable[Question],
    runtime: Runtime,
    workers: Workers | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Question, Answer]]:
    """The answers to questions, as they come: from workers, or from this process, which then answers one at a time.

    A UserError or TrialError is the answer to its question alone, as is a busy lock, or the loss of the question's
    workers; any other error is raised. Where `stop` says so, raises Stopped, and what has no answer yet is lost.
    """
    waiting = iter(questions)
    running: dict[Any, tuple[Question, ExitStack]] = {}
    lost: Counter[str] = Counter()
    with ExitStack() as locks:
        while True:
            while (workers is None or len(running) < workers.room()) and (question := next(waiting, None)):
                lock = locks.enter_context(ExitStack())
                told = _without_asking(question, lock)
                if workers is not None and not told:
                    running[workers.begin(question)] = question, lock
                    continue
                for answer in told or _answer(question, runtime):
                    yield question, answer
                    if stop():
                        raise Stopped
                lock.close()
            if workers is None or not running:
                return
            for handle, answer in workers.messages():
                question, lock = running[handle]
                if answer is None or answer.ended:
                    running.pop(handle)
                if answer is None:
                    lost[question.key] += 1
                    if lost[question.key] < LOST:
                        running[workers.begin(question)] = question, lock
                        continue
                    why = f"{question.key}: its worker was lost {LOST} times; was there enough memory?"
                    answer = Answer(error=TrialError(why), ended=True)
                if answer.error is not None and not isinstance(answer.error, UserError | TrialError):
                    raise answer.error
                yield question, answer
                if answer.ended:
                    lock.close()
            if stop():
                raise Stopped


def _without_asking(question: Question, lock: ExitStack) -> list[Answer]:
    """The answer where it is known, or somebody else has the question's lock; else none, and the lock is held."""
    if question.known is not None:
        return [Answer(1.0, question.known, ended=True)]
    try:
        lock.enter_context(question.lock())
    except FolderBusyError as error:
        return [Answer(error=error, ended=True)]
    return []


def _answer(question: Question, runtime: Runtime) -> Iterator[Answer]:
    try:
        said = question.ask(runtime=runtime)
        for one in said if isinstance(said, Iterator) else [said]:
            yield Answer(one) if isinstance(one, float) else Answer(1.0, one, ended=True)
    except (UserError, TrialError) as error:
        yield Answer(error=error, ended=True)


def answer(question: Question, setup: Setup, device: str, stop: Callable[[], bool]) -> Iterator[Answer]:
    """The Work of a worker that is asked: tells now and then how far it is, and any error."""
    told = 0.0
    try:
        for one in _answer(question, setup.runtime_on(device)):
            if one.ended or time.monotonic() - told > SECONDS:
                told = time.monotonic()
                yield one
    except Exception as error:
        error.add_note(traceback.format_exc())
        yield Answer(error=error, ended=True)

"""Work that ends in one value, as to measure a network: here, one after another, or side by side on workers.

Who asks gets the answers, and alone writes them.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stn_train.errors import Stopped, TrialError, UserError
from stn_train.experiment.executors import LOST, SECONDS, Setup, Workers
from stn_train.experiment.runtime import Runtime


@dataclass(frozen=True)
class Question:
    """What is to be found out: `ask(runtime=...)` returns it, or yields what share of the work is done and it at last.

    `key` tells it from others; `known` is the answer where nobody need be asked. For workers, `ask` has to be a
    `functools.partial` of a function that can be imported.
    """

    key: str
    ask: Callable[..., Any]
    known: Any = None


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

    A UserError or TrialError is the answer to its question alone, and so is the loss of the question's workers; any
    other error is raised. Where `stop` says so, raises Stopped, and what has no answer yet is lost.
    """
    waiting, again = iter(questions), list[Question]()
    running: dict[Any, Question] = {}
    lost: Counter[str] = Counter()
    while True:
        while question := _next(again, waiting, workers.room() - len(running) if workers else 1):
            if workers is None or question.known is not None:
                for answer in _answer(question, runtime):
                    yield question, answer
                    if stop():
                        raise Stopped
            else:
                running[workers.begin(question)] = question
        if workers is None or not running:
            return
        for handle, answer in workers.messages():
            question = running[handle]
            if answer is None or answer.ended:
                running.pop(handle)
            if answer is None:
                lost[question.key] += 1
                if lost[question.key] < LOST:
                    again.append(question)
                    continue
                why = f"{question.key}: its worker was lost {LOST} times; was there enough memory?"
                answer = Answer(error=TrialError(why), ended=True)
            if answer.error is not None and not isinstance(answer.error, UserError | TrialError):
                raise answer.error
            yield question, answer
        if stop():
            raise Stopped


def _next(again: list[Question], waiting: Iterator[Question], room: int) -> Question | None:
    """The next question, first of those whose worker was lost; None where there is none, or no room."""
    return None if room < 1 else again.pop() if again else next(waiting, None)


def _answer(question: Question, runtime: Runtime) -> Iterator[Answer]:
    try:
        said = question.ask(runtime=runtime) if question.known is None else question.known
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

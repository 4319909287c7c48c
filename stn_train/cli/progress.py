"""Progress on stderr: on a terminal a bar of the whole, and one of each part that is worked on; elsewhere one line an
epoch. Only warnings and failures when quiet."""

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Never

from tqdm import tqdm

if TYPE_CHECKING:
    from stn_train.experiment.run import RunProgress


@dataclass
class ProgressDisplay:
    """Shows how far a run, or another command of many parts, is; `where` says on what and into which folder.

    `failed`: the keys of the parts that have failed; `busy`: of those that another process works on.
    """

    quiet: bool
    where: str
    failed: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    warned: set[tuple[str, str, int]] = field(default_factory=set)
    whole: "tqdm[Never] | None" = None
    bar: "tqdm[Never] | None" = None
    stepped: bool = False
    before: float = 0.0
    share: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def show(self, progress: "RunProgress") -> None:
        """A trial begins, has finished an epoch, has finished, was finished before, or has failed."""
        trial, record = progress.trial, progress.record
        title = f"trial {progress.number} of {progress.total}  {trial.key}"
        if progress.warning is not None:
            self.line(f"warning: {progress.warning}")
        if progress.failure is not None:
            self.fail(trial.key, f"{progress.failure.traceback or ''}{title}  failed: {progress.failure.why}")
            return
        if record is not None:
            from stn_train.evaluation.metrics import warnings_of  # there is nothing to warn of before an epoch's end
            from stn_train.report.page import render

            for warning in warnings_of(record, trial.training):
                once = (trial.key, warning.fault, warning.number)  # each trouble once a trial
                if once not in self.warned:
                    self.warned.add(once)
                    self.line(f"warning: {trial.key}: {render('sentences.j2', 'transformer_warning', warning)}")
        if progress.busy is not None:
            self.busy.append(trial.key)
            self.line(f"{title}  left out: {progress.busy}")
        elif not self.quiet:
            self.tell_where(progress.total, "trial")
            self.tell(progress, title)

    def tell(self, progress: "RunProgress", title: str) -> None:
        """How far a trial is, where nobody wants it quiet."""
        trial, record = progress.trial, progress.record
        if progress.skipped:
            self.end(f"{title}  was finished before")
        elif progress.finished:
            if self.bar is not None:
                self.end(f"  {self.bar.postfix or 'was trained before'}  {self.seconds:.1f} s")
        elif record is None:
            self.begin(title, trial.training.epochs, "epochs", progress.before, progress.share)
        elif self.bar is not None:
            self.bar.set_postfix_str(f"error {record.error:.2f} %, loss {record.loss:.2f}")
        else:
            self.end(
                f"{title}  epoch {record.epoch} of {trial.training.epochs}  loss {record.loss:.4f}  "
                f"error {record.error:.2f} %  {self.seconds:.1f} s"
            )

    def tell_where(self, parts: int, noun: str) -> None:
        """Say once, before all else, of how many parts the work is, and where it is done."""
        if self.where:
            self.line(f"{parts} {noun if parts == 1 else f'{noun}s'} {self.where}")
        self.where = ""

    def begin(self, title: str, total: int, unit: str, before: float = 0.0, share: float = 0.0) -> None:
        """A part begins, which is done after `total` of its unit.

        It is a `share` of the whole, of which a share `before` was done earlier. A part without a share has one bar.
        """
        self.close(whole=False)
        self.began, self.stepped = time.monotonic(), False
        self.before, self.share = before, share
        if not self.quiet and sys.stderr.isatty():
            self.line(title)
            if share and self.whole is None:
                self.whole = make_bar(1, "{percentage:.0f} % of all", before)
            self.bar = make_bar(total, f"{{n:.1f}} of {{total}} {unit}")

    def after_step(self, done: float) -> None:
        """So much of the part is done; what was done before the first step, and its loading, is not timed."""
        if self.bar is None:
            return
        of_whole = self.before + self.share * done / (self.bar.total or 1)
        if self.whole is not None:
            if not self.stepped:  # what came before it was timed, or was done by somebody else
                self.whole.initial += of_whole - self.whole.n
                self.whole.n = of_whole
            self.whole.update(of_whole - self.whole.n)
        if self.stepped:
            self.bar.update(done - self.bar.n)
        else:
            self.bar.reset()
            self.bar.initial = self.bar.n = self.bar.last_print_n = done
            self.stepped = True

    @property
    def seconds(self) -> float:
        """Since a part began, or the last line on it."""
        return time.monotonic() - self.began

    def end(self, text: str) -> None:
        """A line on what has been done."""
        self.close(whole=False)
        self.began = time.monotonic()
        self.line(text)

    def fail(self, key: str, text: str) -> None:
        """A part has failed: told even when quiet."""
        self.close(whole=False)
        self.failed.append(key)
        self.line(text)

    def close(self, whole: bool = True) -> None:
        """Leave the terminal as it should be; without `whole`, the bar of all parts stays."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if whole and self.whole is not None:
            self.whole.close()
            self.whole = None

    @staticmethod
    def line(text: str) -> None:
        """A line of its own, above the bars where there are any."""
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


def make_bar(total: int, done: str, initial: float = 0.0) -> "tqdm[Never]":
    """A bar on stderr, with the time that is left, which vanishes when it is closed; `done`: how it says how far it is.

    The time is told from the mean speed. `miniters`: a look at the clock after every step, however fast they were.
    """
    made: tqdm[Never] = tqdm(
        total=total,
        initial=initial,
        bar_format=f"|{{bar:15}}| {done}, {{remaining}} left{{postfix}}",
        file=sys.stderr,
        leave=False,
        smoothing=0,
        miniters=0,
    )
    if (made.ncols or 0) < 1:  # a terminal that does not know its size
        made.ncols, made.nrows = 79, 24
    return made

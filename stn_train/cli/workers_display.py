"""Progress of trials that several workers train at once; imported where there are any."""

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Never

from stn_train.cli.progress import ProgressDisplay, make_bar

if TYPE_CHECKING:
    from tqdm import tqdm

    from stn_train.experiment.run import RunProgress


@dataclass
class WorkersDisplay(ProgressDisplay):
    """A ProgressDisplay of trials side by side: a bar for the whole, and one for each that is being trained."""

    bars: "dict[str, tqdm[Never]]" = field(default_factory=dict)
    begins: dict[str, float] = field(default_factory=dict)

    def tell(self, progress: "RunProgress", title: str) -> None:
        """A trial begins, also once more, has finished an epoch, has finished, or was finished before."""
        key, record, epochs = progress.trial.key, progress.record, progress.trial.training.epochs
        if self.whole is None and sys.stderr.isatty():
            self.whole = make_bar(1, "{percentage:.0f} % of all")
        seconds = time.monotonic() - self.begins.setdefault(key, time.monotonic())
        if progress.skipped:
            self.line(f"{title}  was finished before")
            self._advance(progress.share, trained=False)
        elif progress.finished:
            if key in self.bars:
                error = str(self.bars[key].postfix or "was trained before").partition(",")[0]
                self._close_one(key, f"{title}  {error}  {seconds:.1f} s  {progress.worker}")
        elif record is None:
            if self.whole is not None and key not in self.bars:
                self.bars[key] = make_bar(epochs, f"{{n:.0f}} of {epochs} epochs")
            if key in self.bars:
                self.bars[key].set_postfix_str(f"{key}, {progress.worker}")
        elif key not in self.bars:
            self.line(
                f"{title}  epoch {record.epoch} of {epochs}  loss {record.loss:.4f}  error {record.error:.2f} %  "
                f"{seconds:.1f} s  {progress.worker}"
            )
        else:
            bar = self.bars[key]
            if not bar.n:
                bar.initial = bar.n = record.epoch - 1
                self._advance(progress.share * bar.n / epochs, trained=False)
            self._advance(progress.share * (record.epoch - bar.n) / epochs)
            bar.set_postfix_str(f"error {record.error:.2f} %, {key}, {progress.worker}", refresh=False)
            bar.update(record.epoch - bar.n)

    def tell_part(self, key: str, done: float, share: float, end: str | None = None, skipped: bool = False) -> None:
        """Of a part without epochs, which is a `share` of the whole, so much is done.

        `end` begins the line when all is; `skipped`: it was before.
        """
        if self.whole is None and sys.stderr.isatty():
            self.whole = make_bar(1, "{percentage:.0f} % of all")
        if skipped:
            self.line(f"{end}  was finished before")
            self._advance(share, trained=False)
            return
        seconds = time.monotonic() - self.begins.setdefault(key, time.monotonic())
        if self.whole is not None and key not in self.bars and end is None:
            self.bars[key] = make_bar(100, "{n:.1f} of {total} %")
            self.bars[key].set_postfix_str(key)
        if key in self.bars:
            self._advance(share * (done - self.bars[key].n / 100))
            self.bars[key].update(100 * done - self.bars[key].n)
        if end is not None:
            self._close_one(key, f"{end}  {seconds:.1f} s")

    def fail(self, key: str, text: str) -> None:
        """A trial has failed: told even when quiet."""
        self.failed.append(key)
        self._close_one(key, text)

    def close(self, whole: bool = True) -> None:
        """Leave the terminal as it should be."""
        for key in [*self.bars]:
            self._close_one(key)
        super().close(whole)

    def _close_one(self, key: str, text: str = "") -> None:
        if key in self.bars:
            self.bars.pop(key).close()
        if text:
            self.line(text)

    def _advance(self, share: float, trained: bool = True) -> None:
        """A share of the whole is done: `trained`, or by somebody else, which says nothing of the time left."""
        if self.whole is not None:
            self.whole.initial += 0 if trained else share
            self.whole.update(min(share, 1 - self.whole.n))  # rounded, the shares may be more than the whole

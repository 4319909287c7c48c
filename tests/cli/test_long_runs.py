"""A long run keeps its memory and its open files to itself."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest

QUIET = 10
"""Epochs after which everything that a run needs has been taken."""
WINDOW = 5
"""Epochs over which what is counted is brought to one number."""


def counted(process: int) -> tuple[float, int]:
    """The memory of a process in MB, and how many files it has open."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{process}/fd"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.slow
def test_memory_and_open_files_do_not_grow(start, tmp_path, trials):
    epochs, bound = trials(40, 300), trials(35, 500) / 10
    changes = ("models=[st_cnn]", "parameters=50_000", "training.batch_size=480", f"training.epochs={epochs}")
    arguments = [word for each in changes for word in ("--set", each)]
    command = start("run", "--config", "small.yaml", "--threads", "1", *arguments, exact=1 << 16)
    seen: dict[int, tuple[float, int]] = {}  # by epoch, the least: what is not taken for a moment alone
    while Path(f"/proc/{command.process}").exists():
        with suppress(FileNotFoundError):  # it has not begun, or has just ended
            told = re.findall(r"  epoch (\d+) of", (tmp_path / "stderr").read_text())
            if told:
                epoch, (memory, files) = int(told[-1]), counted(command.process)
                least = seen.get(epoch, (memory, files))
                seen[epoch] = min(memory, least[0]), min(files, least[1])
        time.sleep(0.005)
    assert command.end().code == 0
    counts = [seen[epoch] for epoch in sorted(seen)][:-1]  # the last one's may be of a process that ends
    early, late = counts[QUIET:][:WINDOW], counts[-WINDOW:]
    (memory_early, files_early), (memory_late, files_late) = (
        (median(memory for memory, _ in part), min(files for _, files in part)) for part in (early, late)
    )
    print(f"{epochs} epochs: {memory_early:.1f} MB after {QUIET}, {memory_late:.1f} MB at the end")
    print(f"{files_early} files open after {QUIET}, {files_late} at the end")
    assert len(seen) > 0.8 * epochs
    assert memory_late - memory_early < bound
    assert files_late <= files_early

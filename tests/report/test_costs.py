"""What accuracy costs: models after equal seconds of training, and a picture beside equal parameters."""

from pathlib import Path

import pytest
from made_up_run import begin, finish, summary_of

from stn_train import storage
from stn_train.report.write import report_run
from stn_train.run_folder import EpochRecord, RunFolder, Timing
from stn_train.specs import TrialSpec

ERRORS = (40.0, 20.0, 10.0, 5.0)


def trained(folder: RunFolder, trial: TrialSpec, seconds: float, epochs: tuple[int, ...] = (1, 2, 3, 4)) -> None:
    """Finished after so many seconds, with ERRORS after these epochs as its learning curve."""
    finish(folder, trial, errors=5)
    files = folder.trial(trial)
    timing = files.load(Timing, files.timing)
    storage.write_record(files.timing, timing.model_copy(update={"seconds": seconds}).model_dump(mode="json"))
    records = [
        EpochRecord(epoch=epoch, loss=1.0, error=error, lr=0.1) for epoch, error in zip(epochs, ERRORS, strict=True)
    ]
    storage.write(files.metrics, "".join(f"{one.model_dump_json()}\n" for one in records), storage.LINES)


@pytest.mark.parametrize(
    ("slow", "expected"), [(60.0, 95.0), (120.0, 80.0), (100.0, 84.0), (240.0, 60.0), (300.0, None)]
)
def test_accuracy_at_equal_time_is_that_of_the_learning_curve(
    tmp_path: Path, slow: float, expected: float | None
) -> None:
    folder, (baseline, model) = begin(tmp_path)
    trained(folder, baseline, slow)
    trained(folder, model, 60.0)
    found = {row["model"]: row["accuracy_at_equal_time"] for row in summary_of(folder)}
    assert found == {model.model.name: pytest.approx(95), baseline.model.name: expected and pytest.approx(expected)}


def test_an_epoch_that_was_not_evaluated_takes_its_time_too(tmp_path: Path) -> None:
    """After 150 of 250 seconds, 15 of 25 epochs: half-way between those of the epochs 10 and 20."""
    folder, (baseline, model) = begin(tmp_path)
    trained(folder, baseline, 250.0, (5, 10, 20, 25))
    trained(folder, model, 150.0)
    found = {row["model"]: row["accuracy_at_equal_time"] for row in summary_of(folder)}
    assert found[baseline.model.name] == pytest.approx(85)


@pytest.mark.parametrize("count", [1, 2])
def test_costs_are_drawn_where_there_are_models_to_compare(tmp_path: Path, count: int) -> None:
    folder, trials = begin(tmp_path)
    for trial in trials[:count]:
        trained(folder, trial, 60.0)
    report_run(folder)
    assert (folder.figures / "costs@rts.png").exists() == (count == 2)
    assert ("costs@rts.png" in (tmp_path / "report.md").read_text()) == (count == 2)


def test_costs_are_drawn_also_of_trainings_without_a_learning_curve(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    for trial in trials:
        trained(folder, trial, 60.0)
        folder.trial(trial).metrics.unlink()
    report_run(folder)
    assert (folder.figures / "costs@rts.png").exists()


@pytest.mark.parametrize(("share", "told"), [(0.4, True), (0.95, False), (None, False)])
def test_times_of_a_busy_machine_are_called_rough(tmp_path: Path, share: float | None, told: bool) -> None:
    folder, trials = begin(tmp_path)
    for trial in trials:
        trained(folder, trial, 60.0)
        files = folder.trial(trial)
        timing = files.load(Timing, files.timing).changed(cpu_share=share)
        storage.write_record(files.timing, timing.model_dump(mode="json"))
    report_run(folder)
    assert ("Times are rough" in (folder.path / "report.md").read_text()) == told

"""The report of a run's folder in which other processes may be at work. Torch-free."""

from stn_train.reporting.records import RunFolder
from stn_train.reporting.report import Report, write_report
from stn_train.storage import alone_in, clear_leftovers, refuse_links


def report_run(folder: RunFolder) -> Report:
    """Write a run's report, as `write_report` does, while no other process writes at the top of its folder."""
    folder.load_experiment()  # before a folder is made where there is no run
    with alone_in(folder.path, stop=lambda: False):
        refuse_links(folder.path)
        clear_leftovers(folder.path, "report.*")
        clear_leftovers(folder.figures)
        return write_report(folder)

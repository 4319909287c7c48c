"""`stn-train doctor`: what there is to train with."""

import typer

from stn_train.cli.common import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Tell what this machine has to train with.

    Versions, devices, threads, where digits are looked for and found, free disk, and what each extra would add. Put
    what `--json` prints into a bug report.

    For instance: stn-train doctor
    """
    from stn_train.experiment.doctor import examine
    from stn_train.report.page import doctor as as_text
    from stn_train.storage import json_text

    found = examine()
    typer.echo(json_text(found, only_ascii=True) if as_json else as_text(found))

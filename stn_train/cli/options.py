"""Options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[str, typer.Option("--config", "-c", metavar="CONFIG", help="A YAML file, or a shipped name.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, for instance training.epochs=5; can be repeated."),
]
DataRoot = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Folder of the digits; else data_root of the config, $STN_TRAIN_DATA, a cache."),
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...; the GPU where there is one.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, metavar="N", help="CPU threads; torch's choice if not given.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, for instance runs/rts.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Where results go; runs/NAME if not given.")]
Validate = Annotated[bool, typer.Option("--validate", help="Hold out training digits and report on them: for tuning.")]
AllowImports = Annotated[
    bool, typer.Option("--allow-imports", help="Run the code of classifiers that a checkpoint or a run's folder names.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]

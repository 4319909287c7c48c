"""`stn-train config`: look at configurations, check them, and make one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.cli.common import AllowImports, Overrides, a_path, in_one_line
from stn_train.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from stn_train.colocalisation.spec import ColocalisationSpec
    from stn_train.specs import ExperimentSpec

app = typer.Typer(help="List, show, check and copy configurations.", no_args_is_help=True, rich_markup_mode=None)

Config = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, or a shipped configuration's name.")]


@app.command("list")
def list_() -> None:
    """List the shipped configurations."""
    from stn_train.config import shipped

    known = shipped()
    width = max(map(len, known), default=0)
    for name, path in known.items():
        with path.open(encoding="utf-8") as file:
            typer.echo(f"{name:{width}}  {file.readline().lstrip('# ').rstrip()}")


@app.command()
def show(config: Config, overrides: Overrides = None) -> None:
    """Print a configuration, defaults and all.

    For instance: stn-train config show rts --set training.epochs=5
    """
    from stn_train.config import dump, load_any

    typer.echo(dump(load_any(config, overrides or ())), nl=False)


@app.command()
def check(
    configs: Annotated[
        list[str], typer.Argument(metavar="CONFIG", help="YAML files, or shipped configurations' names.")
    ],
    overrides: Overrides = None,
    allow_imports: AllowImports = False,
) -> None:
    """Look for mistakes, without training anything: what the file says, and whether its models can be built.

    Says how many trials, or cells of a co-localisation, each configuration makes, or what is wrong with it (then the
    exit code is 2).

    For instance: stn-train config check rts mine.yaml
    """
    from stn_train.config import load_any

    failed = False
    for config in configs:
        try:
            spec = load_any(config, overrides or ())
        except UserError as error:
            mistakes = [str(sentence) for sentence in error.args]
        else:
            mistakes = [
                f"{config}: {mistake.removeprefix(f'{config} ')}" for mistake in _mistakes(spec, config, allow_imports)
            ]
        for mistake in mistakes:
            typer.echo(in_one_line(mistake), err=True)
        failed = failed or bool(mistakes)
        if not mistakes:
            typer.echo(f"{config}: {_product(spec)}")
    if failed:
        raise typer.Exit(2)


@app.command()
def copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped configuration's name.")],
    destination: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", parser=a_path, help="Where to; NAME.yaml in this folder if not given."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Copy a shipped configuration, to change it.

    For instance: stn-train config copy rts mine.yaml
    """
    from stn_train.config import shipped
    from stn_train.storage import write_bytes

    known = shipped()
    if name not in known:
        raise UserError(f"there is no shipped configuration {name!r}{did_you_mean(name, known)}")
    target = destination or Path()
    if target.is_dir():
        target /= known[name].name
    if target.exists() and not force:
        raise UserError(f"{target} is there already; --force overwrites it")
    try:
        write_bytes(target, known[name].read_bytes())
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from None
    typer.echo(f"wrote {target}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of configurations.

    For editors that complete and check YAML: stn-train config schema > schema.json
    """
    from stn_train.config import schema
    from stn_train.storage import json_text

    typer.echo(json_text(schema(), only_ascii=True))


def _mistakes(spec: "ExperimentSpec | ColocalisationSpec", config: str, allow_imports: bool) -> list[str]:
    """What would keep the command that a configuration is for from training."""
    from stn_train.colocalisation.run import check_colocalisation
    from stn_train.colocalisation.spec import ColocalisationSpec
    from stn_train.experiment.plan import check_imports
    from stn_train.experiment.run import check_trials
    from stn_train.specs import trials_of

    try:
        if isinstance(spec, ColocalisationSpec):
            check_colocalisation(spec)
        else:
            if not allow_imports:
                check_imports(spec, config)
            check_trials(trials_of(spec), spec.prebuilt)
    except UserError as error:
        return [str(sentence) for sentence in error.args]
    return []


def _product(spec: "ExperimentSpec | ColocalisationSpec") -> str:
    """What a configuration multiplies, and what comes out."""
    from stn_train.colocalisation.spec import ColocalisationSpec, cells_of
    from stn_train.specs import trials_of

    if isinstance(spec, ColocalisationSpec):
        factors = [_count(len(spec.datasets), "dataset"), _count(len(spec.classes), "class", "classes")]
        return f"{' x '.join(factors)} = {_count(len(cells_of(spec)), 'cell')}"
    factors = [
        _count(len(entries), noun)
        for entries, noun in ((spec.datasets, "dataset"), (spec.models, "model"), (spec.seeds, "seed"))
    ]
    return f"{' x '.join(factors)} = {_count(len(trials_of(spec)), 'trial')}"


def _count(number: int, noun: str, several: str | None = None) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {several or noun + 's'}"

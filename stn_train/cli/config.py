"""`stn-train config`: look at configurations, check them, and make one's own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stn_train.cli.common import AllowImports, Overrides, a_path, complete_config, in_one_line
from stn_train.errors import UserError, did_you_mean

app = typer.Typer(help="List, show, check and copy configurations.", no_args_is_help=True)

Config = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG", help="A YAML file, or a shipped configuration's name.", autocompletion=complete_config
    ),
]


@app.command("list")
def list_() -> None:
    """List the shipped configurations, with their times."""
    from stn_train.config import shipped

    known = shipped()
    width = max(map(len, known), default=0)
    for name, path in known.items():
        with path.open(encoding="utf-8") as file:
            subject, time = (file.readline().lstrip("# ").rstrip() for _ in range(2))
        typer.echo(f"{name:{width}}  {time}\n  {subject}")


@app.command()
def show(config: Config, overrides: Overrides = None) -> None:
    """Print a configuration, defaults and all.

    For instance: stn-train config show rts --set training.epochs=5
    """
    from stn_train.config import dump, load_config
    from stn_train.specs import Spec

    typer.echo(dump(load_config(config, overrides or (), kind=Spec)), nl=False)


@app.command()
def check(
    configs: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG", help="YAML files, or shipped configurations' names.", autocompletion=complete_config
        ),
    ],
    overrides: Overrides = None,
    allow_imports: AllowImports = False,
) -> None:
    """Look for mistakes, without training anything.

    In what the file says, and whether its models can be built. Says how many trials, or cells of a co-localisation,
    each configuration makes, or what is wrong with it (then the exit code is 2).

    For instance: stn-train config check rts mine.yaml
    """
    failed = False
    for config in configs:
        try:
            typer.echo(f"{config}: {_product(config, overrides or (), allow_imports)}")
        except UserError as error:
            failed = True
            for mistake in map(str, error.args):
                named = mistake if mistake.startswith(config) else f"{config}: {mistake}"
                typer.echo(in_one_line(named), err=True)
    if failed:
        raise typer.Exit(2)


@app.command()
def copy(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A shipped configuration's name.", autocompletion=complete_config),
    ],
    destination: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", parser=a_path, help="Where to; NAME.yaml in this folder if not given."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Write every key, resolved, with a comment on each.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Copy a shipped configuration, to change it.

    For instance: stn-train config copy rts mine.yaml --full
    """
    from stn_train.config import HOW_TO_LIST, dump_commented, load_config, shipped
    from stn_train.specs import Spec
    from stn_train.storage import write

    known = shipped()
    if name not in known:
        raise UserError(f"there is no shipped configuration {name!r}{did_you_mean(name, known, HOW_TO_LIST)}")
    target = destination or Path()
    if target.is_dir():
        target /= known[name].name
    if target.exists() and not force:
        raise UserError(f"{target} is there already; --force overwrites it")
    content: str | bytes = known[name].read_bytes()
    if full:
        named = f"name={json.dumps(target.stem, ensure_ascii=False)}"
        content = dump_commented(load_config(name, [named], {named: f"{target}"}, kind=Spec))
    write(target, content)
    typer.echo(f"wrote {target}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of configurations.

    For editors that complete and check YAML: stn-train config schema > schema.json
    """
    from stn_train.config import schema
    from stn_train.storage import json_text

    typer.echo(json_text(schema(), only_ascii=True))


def _product(config: str, overrides: Sequence[str], allow_imports: bool) -> str:
    """What a configuration multiplies, and what comes out. Raises UserError for what would keep it from training."""
    from stn_train.colocalisation.spec import ColocalisationSpec, cells_of
    from stn_train.config import load_config
    from stn_train.specs import ExperimentSpec, Spec, trials_of

    spec = load_config(config, overrides, kind=Spec)
    if isinstance(spec, ExperimentSpec):
        from stn_train.experiment.run import check_imports, check_trials

        if spec.source.path is not None:
            from stn_train.experiment.runtime import read_config

            spec, _ = read_config(config, overrides)
        if not allow_imports:
            check_imports(spec, config)
        check_trials(trials_of(spec), spec.prebuilt)
        factors = {"dataset": len(spec.datasets), "model": len(spec.models), "seed": len(spec.seeds)}
        product = {"trial": len(trials_of(spec))}
    else:
        from stn_train.colocalisation.run import check_colocalisation

        assert isinstance(spec, ColocalisationSpec)
        check_colocalisation(spec)
        factors, product = {"dataset": len(spec.datasets), "class": len(spec.classes)}, {"cell": len(cells_of(spec))}
    return f"{' x '.join(map(_count, factors.items()))} = {_count(*product.items())}"


def _count(counted: tuple[str, int]) -> str:
    noun, number = counted
    return f"{number} {noun if number == 1 else 'classes' if noun == 'class' else f'{noun}s'}"

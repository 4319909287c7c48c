"""Fills in the references of the documentation from the code, when `mkdocs` builds it (`hooks` in mkdocs.yml).

A page says `<!-- reference: keys DatasetSpec -->`; in its place comes what the function of that name below returns.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from textwrap import indent
from typing import Any, cast

import typer.cli
import typer.main
import yaml

from stn_train import run_folder
from stn_train.cli import app
from stn_train.colocalisation.spec import ColocalisationSpec
from stn_train.config import load_config, schema, shipped
from stn_train.report.measures import MEASURES
from stn_train.report.page import markdown_table
from stn_train.specs import DATASETS, MODELS, RECIPES, ExperimentSpec, Spec, trials_of

PRESETS = {"dataset": DATASETS, "model": MODELS}
OPTIONAL = ("name", "base", "training")
"""Keys without a default that need not be given."""
SCHEMAS = (schema(), ColocalisationSpec.model_json_schema())
PARTS: dict[str, dict[str, Any]] = {
    name: part for whole in SCHEMAS[::-1] for name, part in {**whole["$defs"], whole["title"]: whole}.items()
}
"""What a configuration is made of, by the name of its class, as JSON Schema."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """A page as mkdocs is to read it, with its references filled in."""
    mark = re.compile(r"^( *)<!-- reference: (\w+) ?(\w*) -->$", re.MULTILINE)
    return mark.sub(lambda found: indent(REFERENCES[found[2]](found[3]), found[1]), markdown)


def code(value: Any) -> str:
    """A value as a configuration has it, as code; a dash for none."""
    written = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return "–" if value is None else f"`{written.removesuffix('...' + chr(10)).strip()}`"


def keys(part: str) -> str:
    """The keys of a part of a configuration: default (of a recipe, both recipes' values), bounds and meaning."""
    recipes = RECIPES if part == "TrainingSpec" else {}
    lines = [("key", *(map(code, recipes) if recipes else ["default"]), "values", "meaning")]
    for key, said in PARTS[part]["properties"].items():
        needed = "default" not in said and key not in OPTIONAL
        defaults = [code(recipe.get(key)) for recipe in recipes.values()]
        defaults = defaults or ["required" if needed else code(said.get("default"))]
        lines.append((code(key), *defaults, values(said), said["description"]))
    return markdown_table(lines, len(lines[0]))


def values(said: Mapping[str, Any]) -> str:
    """What a key can be, in words, by its JSON Schema."""
    if "anyOf" in said:
        unset = said.get("default", ...) is None  # the dash for its default says that it may be left out
        return ", or ".join(dict.fromkeys(values(one) for one in said["anyOf"] if one != {"type": "null"} or not unset))
    if "$ref" in said:
        name = said["$ref"].rsplit("/")[-1].removesuffix("Spec")
        return f"[keys](#{re.sub('(?<!^)(?=[A-Z])', '-', name).lower()})"
    for kind, known in PRESETS.items():
        if said.get("enum") == [*known]:
            return f"[a preset](#{kind}-presets)"
    if "enum" in said or "const" in said:
        return ", ".join(map(code, said.get("enum", [said.get("const")])))
    if "prefixItems" in said:
        return "a pair of such numbers"
    if said["type"] == "array":
        return f"a list of {said.get('minItems', 0)} to {said['maxItems']:,}: {values(said['items'])}"
    if said["type"] == "object" and "properties" in said:
        return f"a mapping with {' and '.join(map(code, said['properties']))}"
    if said["type"] == "object":
        return f"a mapping to {values(said['additionalProperties'])}"
    if said["type"] not in ("integer", "number"):
        return {"boolean": "`true`, `false`", "null": "`null`", "string": "text"}[said["type"]]
    low = f"{said['minimum']:,}" if "minimum" in said else f"above {said['exclusiveMinimum']:,}"
    return f"{low} to {said['maximum']:,}" if "maximum" in said else f"{low} to below {said['exclusiveMaximum']:,}"


def presets(kind: str) -> str:
    """The presets of datasets or models: what each sets."""
    lines = [("name", "what it sets"), *((code(name), code(preset)) for name, preset in PRESETS[kind].items())]
    return markdown_table(lines, len(lines[0]))


def configurations(_: str) -> str:
    """The shipped configurations: what each is, and what it multiplies."""
    lines = [("name", "trials", "datasets", "models", "what it is")]
    for name, path in shipped().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        spec = load_config(name, kind=Spec)
        datasets, models = (
            ", ".join(code(one.name) for one in getattr(spec, several, ())) or "–" for several in ("datasets", "models")
        )
        trials = str(len(trials_of(spec))) if isinstance(spec, ExperimentSpec) else "–"
        lines.append((code(name), trials, datasets, models, first))
    return markdown_table(lines, len(lines[0]))


def commands(_: str) -> str:
    """Every command with its arguments and options, as `typer utils docs` has them."""
    command = typer.main.get_command(app)
    context = command.make_context("stn-train", [], resilient_parsing=True)
    written = typer.cli.get_docs_for_click(obj=command, ctx=cast(typer.Context, context), name="stn-train")
    return re.sub(r"^(.*): (stn-train .*)$", r"\1: `\2`", written.removeprefix("# `stn-train`"), flags=re.MULTILINE)


def columns(_: str) -> str:
    """The measures, which are columns of report.csv and of a notebook's tables; N stands for a number."""
    known = {
        re.sub(r"\d+$", "N", one.key): re.sub(r"(transformer|class) \d+", r"\1 N", one.description) for one in MEASURES
    }
    lines = [("column", "meaning"), *((code(key), told) for key, told in known.items())]
    return markdown_table(lines, len(lines[0]))


def files(_: str) -> str:
    """The files of a run's folder, as the code that reads them lists them."""
    listed = inspect.getdoc(run_folder).split("\n\n")[1]  # type: ignore[union-attr]
    return f"```\n{listed}\n```"


REFERENCES: dict[str, Callable[[str], str]] = {
    function.__name__: function for function in (keys, presets, configurations, commands, columns, files)
}

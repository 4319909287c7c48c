"""`stn-train config`, and how the command line tells of mistakes."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from stn_train import cli
from stn_train.cli import main
from stn_train.config import dump, load_config, schema, shipped
from stn_train.specs import Spec


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


def test_list_shows_each_configuration_with_its_subject_and_its_time(run):
    code, out, err = run("config", "list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[::2]] == list(shipped())
    for path, named, subject in zip(shipped().values(), lines[::2], lines[1::2], strict=True):
        first, second, *_ = path.read_text().splitlines()
        assert first == f"# {subject.strip()}"
        assert named.endswith(second.removeprefix("#"))
        assert re.fullmatch(
            r"# About (a|\d+) (second|minute|hour)s? on two CPU cores \((estimated|measured)\)\.", second
        )


def test_show_prints_the_resolved_configuration(run):
    override = "training.epochs=5"
    assert run("config", "show", "rts", "--set", override) == (0, dump(load_config("rts", [override])), "")


def test_check_counts_the_trials(run):
    arguments = ("--set", "seeds=[0,1,2]", "--set", "datasets=[r,tc]")
    assert run("config", "check", "rts", "r", *arguments) == (
        0,
        "rts: 2 datasets x 2 models x 3 seeds = 12 trials\nr: 2 datasets x 2 models x 3 seeds = 12 trials\n",
        "",
    )
    assert run("config", "check", "rts")[1] == "rts: 1 dataset x 2 models x 1 seed = 2 trials\n"


def test_the_papers_tables_are_found_shown_and_counted(run):
    names = ["paper/table1", "paper/tc", "paper/addition", "paper/longer"]
    code, out, err = run("config", "check", *names)
    assert (code, err) == (0, "")
    code, _, err = run("config", "check", "paper/fixed")
    assert code == 2, "its images have to be built first"
    assert "data build" in err
    assert out.splitlines() == [
        "paper/table1: 4 datasets x 8 models x 3 seeds = 96 trials",
        "paper/tc: 1 dataset x 4 models x 3 seeds = 12 trials",
        "paper/addition: 1 dataset x 8 models x 3 seeds = 24 trials",
        "paper/longer: 3 datasets x 4 models x 3 seeds = 36 trials",
    ]
    assert run("config", "show", "paper/table1")[1].startswith("name: table1\n")
    assert "epochs: 640\n" in run("config", "show", "paper/table1", "--set", "recipe=paper")[1]


E = ("--set", "datasets=[e]")
FAULTY = {
    "a budget that no width meets": ("--set", "parameters=1_000"),
    "a classifier too large for its canvas": ("--set", "datasets=[{name: tiny, base: r, canvas: 12}]"),
    "a localisation network too large": ("--set", "models=[{name: m, classifier: fcn, transformer: {before: [1]}}]"),
    "more digits than the source has": ("--set", "training.train_size=55_000", "--set", "validation=true"),
    "images that were never built": ("--set", "prebuilt=nowhere"),
    "no trial left": ("--set", "models=[{name: m, base: st_cnn, transformer: {pose: oracle}}]", *E),
}


@pytest.mark.parametrize("changes", FAULTY.values(), ids=FAULTY)
def test_check_dry_run_and_run_find_the_same_fault(run, changes):
    Path("mine.yaml").write_text("datasets: [r]\nmodels: [cnn_paper]\ntraining: {epochs: 1}\n")
    code, out, err = run("config", "check", "mine.yaml", *changes)
    assert (code, out) == (2, "")
    told = err.removeprefix("mine.yaml: ")
    assert told.count("\n") == 1
    for command in (("run", "--dry-run"), ("run",)):
        assert run(*command, "--config", "mine.yaml", *changes) == (2, "", f"stn-train: error: {told}")
    assert [path.name for path in Path().iterdir()] == ["mine.yaml"], "found before anything is written or downloaded"


def test_all_mistakes_are_told_by_check_and_by_run(run):
    Path("mine.yaml").write_text(
        "source: digits\ndatasets: [r]\nmodels: [st_fcn, st_cnn]\nparameters: 10_000\ntraining: {train_size: 5_000}\n"
    )
    code, _, err = run("config", "check", "mine.yaml")
    assert code == 2
    first, second, third = err.splitlines()
    assert "model st_fcn cannot have" in first
    assert "model st_cnn cannot have" in second
    assert "training.train_size is 5,000" in third
    assert run("run", "--config", "mine.yaml")[2].count("stn-train: error: ") == 3


def test_a_budget_that_one_model_misses_is_told_with_one_that_suits_all(run):
    code, _, err = run("config", "check", "quickstart", "--set", "parameters=30_000")
    assert code == 2
    assert "cnn_paper" in err
    suits_all = re.search(r"parameters=\d+", err).group()
    assert run("config", "check", "quickstart", "--set", suits_all)[0] == 0


def test_check_builds_what_a_colocalisation_needs(run):
    Path("where.yaml").write_text(
        "task: colocalisation\nsource: digits\ndatasets: [{name: t, canvas: 14, translation: 1}]\nclasses: [3]\n"
        "encoder: {dataset: {name: moved, translation: 1}, parameters: 10_000, epochs: 1}\n"
        "localiser: {localisation: conv_paper, margin: 1.0, steps: 3, batch_size: 8, lr: 0.003}\n"
    )
    code, out, err = run("config", "check", "where.yaml")
    assert (code, out) == (2, "")
    assert "28 x 28 pixels or more and gets 14 x 14" in err
    assert run("colocalise", "--config", "where.yaml")[0] == 2
    assert [path.name for path in Path().iterdir()] == ["where.yaml"]


def test_check_looks_at_every_file_and_fails_if_one_is_wrong(run):
    Path("a.yaml").write_text("datasets: [rst]\nmodels: [cnn]\n")
    code, out, err = run("config", "check", "a.yaml", "rts", "b.yaml")
    assert code == 2
    assert out == "rts: 1 dataset x 2 models x 1 seed = 2 trials\n"
    first, second = err.splitlines()
    assert first == "a.yaml:1: datasets.0: there is no dataset preset 'rst'; did you mean 'rts'?"
    assert second.startswith("b.yaml ")


@pytest.mark.parametrize("name", shipped())
def test_a_full_copy_means_the_same_and_has_every_key(run, name):
    assert run("config", "copy", name, "mine.yaml", "--full") == (0, "wrote mine.yaml\n", "")
    copied = Path("mine.yaml").read_text()
    whole = load_config(name, ["name=mine"], kind=Spec)
    assert load_config("mine.yaml", kind=Spec) == whole
    written = set(re.findall(r"^[ #]*([a-z_]+):", copied, re.MULTILINE))
    assert set(type(whole).model_fields) <= written


def test_copy_gives_the_shipped_bytes(run):
    original = shipped()["rts"].read_bytes()
    assert run("config", "copy", "rts") == (0, "wrote rts.yaml\n", "")
    assert Path("rts.yaml").read_bytes() == original
    assert run("config", "copy", "rts", "new/mine.yaml")[0] == 0
    assert Path("new/mine.yaml").read_bytes() == original
    assert run("config", "copy", "r", "new") == (0, "wrote new/r.yaml\n", "")


@pytest.mark.parametrize("stem", ["2025", "true", "null", "1e5", "010"])
def test_a_copy_may_be_called_as_yaml_calls_other_things(run, stem):
    assert run("config", "copy", "rts", f"{stem}.yaml", "--full")[0] == 0
    assert f"name: '{stem}'" in Path(f"{stem}.yaml").read_text()


def test_copy_overwrites_only_when_forced(run):
    Path("rts.yaml").write_text("mine")
    code, _, err = run("config", "copy", "rts")
    assert (code, err) == (2, "stn-train: error: rts.yaml is there already; --force overwrites it\n")
    assert Path("rts.yaml").read_text() == "mine"
    assert run("config", "copy", "rts", "--force")[0] == 0
    assert Path("rts.yaml").read_bytes() == shipped()["rts"].read_bytes()


def test_copy_tells_of_what_it_cannot_do(run):
    Path("file").touch()
    assert run("config", "copy", "rst")[2] == (
        "stn-train: error: there is no shipped configuration 'rst'; did you mean 'rts'?\n"
    )
    code, _, err = run("config", "copy", "rts", "file/below.yaml")
    assert code == 2
    assert err.startswith("stn-train: error: file cannot be used: ")


def test_schema_prints_json(run):
    code, out, _ = run("config", "schema")
    assert code == 0
    assert json.loads(out) == schema()


def test_a_users_mistake_is_one_line_and_exit_code_2(run):
    code, out, err = run("config", "show", "rts", "--set", "training.epoch=5")
    assert (code, out) == (2, "")
    assert err.startswith("stn-train: error: --set training.epoch=5: training.epoch: there is no key 'epoch' here; ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "word", "command"),
    [
        (("confg",), "confg", "stn-train"),
        (("config", "shwo"), "shwo", "stn-train config"),
        (("config", "show", "rts", "--sett", "a=1"), "--sett", "stn-train config show"),
        (("config", "check"), "CONFIG", "stn-train config check"),
    ],
)
def test_wrong_usage_is_two_lines_with_a_way_out_and_exit_code_2(run, arguments, word, command):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("stn-train: error: ")
    assert word in first
    assert second == f"Try '{command} --help'."


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1b[31mb", "a\u2028b", "x" * 50_000])
def test_a_sentence_is_one_line_of_text_whatever_is_named_in_it(run, name):
    for arguments in (("eval", name), ("config", "check", name), ("config", "show", "rts", "--set", name), (name,)):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        first, *way_out = err.removesuffix("\n").split("\n")
        assert first.isprintable()
        assert len(first) < 2000
        assert len(way_out) == (arguments == (name,))


def test_an_argument_without_end_has_no_traceback(run):
    code, out, err = run("run", "--config", "rts", "--seeds", "0," * 100_000)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--seeds 0,0,0" in err


@pytest.mark.parametrize("arguments", [(), ("config",)])
def test_without_a_command_comes_the_help(run, arguments):
    code, out, err = run(*arguments)
    assert (code, err) == (2, "")
    assert out.strip().startswith("Usage: stn-train ")


def test_version_names_torch_too(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("stn-train ")
    assert "(torch " in out


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (KeyboardInterrupt(), 130, ""),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            1,
            "stn-train: error: no space is left on the disk for runs/a; what is saved is whole: give the command again "
            "when that is mended\n",
        ),
    ],
)
def test_interruptions_and_a_full_disk_have_no_traceback(run, monkeypatch, raised, code, told):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr("stn_train.config.load_config", fail)
    assert run("config", "show", "rts") == (code, "", told)


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("stn_train.config.load_config", fail)
    with pytest.raises(ZeroDivisionError):
        main(["config", "show", "rts"])


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, from the checkout."""
    root = Path(cli.__file__).parents[2]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=buffered)


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"torch", "numpy", "scipy", "matplotlib", "pydantic", "yaml"}),
        (["config", "check", "rts", "--set", "training.epoch=5"], {"torch", "numpy", "scipy", "matplotlib"}),
    ],
)
def test_help_and_mistakes_come_without_heavy_imports(arguments, unwanted):
    ended = python(
        "import runpy, sys\n"
        f"sys.argv = ['stn_train', *{arguments!r}]\n"
        "try: runpy.run_module('stn_train', run_name='__main__')\n"
        f"finally: print('imported:', sorted({unwanted!r} & set(sys.modules)))\n"
    )
    assert ended.returncode in (0, 2), ended.stderr
    assert ended.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize("write", ["print", "typer.echo"])
def test_a_reader_that_leaves_early_is_no_error(write):
    ended = python(
        "import os, typer\n"
        "from stn_train import cli\n"
        "reading, writing = os.pipe()\n"
        "os.close(reading)\n"
        "os.dup2(writing, 1)\n"
        f"cli.app.command('talk')(lambda: {write}('a word'))\n"
        "cli.main(['talk'])\n"
    )
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("stn-train run --config lo", ["low_data", "local.yaml"]),
        ("stn-train config check paper/ta", ["paper/table1"]),
        ("stn-train eval runs/rts --dataset rt", ["rts", "rts_wide"]),
        ("stn-train ro", ["robustness"]),
    ],
)
def test_the_shell_completes_commands_configurations_and_datasets(run, monkeypatch, typed, offered):
    Path("local.yaml").touch()
    monkeypatch.setenv("_STN_TRAIN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert run()[1].split() == offered


def test_each_command_is_explained_in_one_line_of_the_help(run):
    for group in ((), ("config",), ("data",)):
        assert "…" not in run(*group, "--help")[1]
        commands = get_command(cli.app)
        for name in group:
            commands = commands.commands[name]
        assert all(len(command.help.splitlines()[0]) <= 55 for command in commands.commands.values() if command.help)

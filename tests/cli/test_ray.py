"""A Ray cluster: started by hand as the documentation says; and nodes and drivers that die."""

import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
from node_deaths import digests, disturbed, undisturbed

DOCUMENTED = (Path(__file__).parents[2] / "docs/parallel.md").read_text()
NET = """
from torch import nn


def net(size, channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))
"""
TABLE = """\
source: digits
datasets: [r]
models: [{name: mine, classifier: "my_own:net"}, fcn]
seeds: [0, 1]
training: {epochs: 3, batch_size: 64, train_size: 192}
"""


@pytest.fixture(scope="module")
def by_hand() -> Iterator[tuple[str, dict[str, str]]]:
    """A cluster of two nodes of one CPU each, on this machine, started as the documentation says: its address, and the
    environment of whoever may use it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    head, other = re.findall(r"^ray start .*", DOCUMENTED, re.MULTILINE)
    address = f"127.0.0.1:{port}"
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus=1", "--block"]
    starts = [head.replace("6379", port), other.replace("HOST:6379", address)]
    with subprocess.Popen([*ray, *starts[0].split()[2:], "--include-dashboard=false"], env=environment) as first:
        for _ in range(600):
            with socket.socket() as there:
                if there.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(0.1)
        with subprocess.Popen([*ray, *starts[1].split()[2:]], env=environment) as second:
            yield address, environment
            second.terminate()
        first.terminate()


@pytest.mark.slow
def test_a_table_on_a_cluster_is_saved_on_ctrl_c_and_ends_with_the_same_bytes(by_hand, tmp_path):
    address, environment = by_hand
    (documented, *_) = re.findall(r"^stn-train (run .* --ray auto)$", DOCUMENTED, re.MULTILINE)
    words = documented.replace("rts --seeds 0,1,2", "table.yaml").replace("auto", address).split()
    command = [sys.executable, "-m", "stn_train", *words]
    (tmp_path / "table.yaml").write_text(TABLE)
    (tmp_path / "my_own.py").write_text(NET)
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as driver:
        while not [*tmp_path.rglob("metrics.jsonl")] and driver.poll() is None:
            time.sleep(0.01)
        driver.send_signal(signal.SIGINT)
        told = driver.communicate()[1]
    assert driver.returncode == 130, told
    assert [*tmp_path.rglob("checkpoint.pt")]
    assert len([*tmp_path.rglob("result.json")]) < 4
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    alone = [*command[: command.index("--ray")], "--threads", "1", "--output-dir", "alone"]
    subprocess.run(alone, cwd=tmp_path, check=True)
    assert len(digests(tmp_path / "alone")) == 16
    assert digests(tmp_path / "runs/table") == digests(tmp_path / "alone")


@pytest.mark.slow
def test_a_node_with_another_version_of_torch_is_named_before_anything_is_trained(by_hand, tmp_path):
    (tmp_path / "table.yaml").write_text(TABLE.replace("my_own:net", "cnn"))
    other = "import stn_train.experiment.cluster as cluster; cluster.versions = lambda: {'torch': '0.4.1'}"
    main = f"from stn_train.cli import main; main(['run', '--config', 'table.yaml', '-q', '--ray', '{by_hand[0]}'])"
    command = [sys.executable, "-c", f"{other}\n{main}"]
    ended = subprocess.run(command, cwd=tmp_path, env=by_hand[1], capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "torch" in ended.stderr
    assert "0.4.1" in ended.stderr
    assert not [*tmp_path.rglob("metrics.jsonl")]


@pytest.mark.slow
def test_where_nodes_and_the_driver_die_every_file_is_as_undisturbed(tmp_path, trials):
    rounds, seeds, lost = trials(1, 10), trials(6, 12), 0
    expected = undisturbed(tmp_path, seeds)
    assert len(expected) == 4 * 2 * seeds
    for number in range(rounds):
        found, of_round = disturbed(tmp_path, f"round-{number}", random.Random(number), seeds)
        assert found == expected
        lost += of_round
    print(f"{rounds} rounds, 2 nodes and the driver killed in each, {lost} workers lost")
    assert lost >= rounds, "nodes died at work"

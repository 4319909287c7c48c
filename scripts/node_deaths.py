"""Nodes of a Ray cluster die while a table is trained on it, and so does the driver: what is found must not change.

    python scripts/node_deaths.py --rounds 10

Trains 24 short trials once undisturbed, then, in each round, on a cluster of four nodes of one CPU, simulated on this
machine. In the middle of epochs two nodes are killed, and between them the driver, which is started again. Prints for
each round how many trials were disturbed, and in how many of the files (results, predictions, learning curves; of
checkpoints, all but the time that they took) the SHA-256 is another than undisturbed.
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from stn_train.training.checkpoint import read_checkpoint

CONFIG = """\
source: digits
datasets: [r]
models: [st_fcn, fcn]
parameters: 50_000
seeds: [{seeds}]
training: {{epochs: 4, batch_size: 64, train_size: 192}}
"""
SAME = ("result.json", "predictions.npz", "metrics.jsonl")
NODES, SEEDS = 4, 12


def command(folder: Path, output: str, *more: str) -> list[str]:
    """`stn-train run` of the table in `folder`."""
    run = [sys.executable, "-m", "stn_train", "run", "--config", str(folder / "table.yaml"), "--threads", "1"]
    return [*run, "--output-dir", str(folder / output), *more]


def digests(run: Path) -> dict[str, str]:
    """The SHA-256 of what must not depend on what happened, by file."""
    found = {path: hashlib.sha256(path.read_bytes()) for name in SAME for path in run.rglob(name)}
    for path in run.rglob("checkpoint.pt"):
        found[path] = hashlib.sha256()
        _add(found[path], read_checkpoint(path) | {"seconds": None})
    return {str(path.relative_to(run)): digest.hexdigest() for path, digest in found.items()}


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key, each in value.items():
            _add(digest, (key, each))
    elif isinstance(value, list | tuple):
        for each in value:
            _add(digest, each)
    else:
        digest.update(repr(value).encode())


def undisturbed(folder: Path, seeds: int = SEEDS) -> dict[str, str]:
    """Train the table one trial after another; the digests of its files."""
    (folder / "table.yaml").write_text(CONFIG.format(seeds=", ".join(map(str, range(seeds)))))
    subprocess.run([*command(folder, "undisturbed"), "-q"], check=True, stdout=subprocess.DEVNULL)
    return digests(folder / "undisturbed")


def disturbed(folder: Path, output: str, chance: random.Random, seeds: int = SEEDS) -> tuple[dict[str, str], int]:
    """Train the table that `undisturbed` has written while two of four nodes and the driver die.

    The digests of its files, and how many workers were lost.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    run, trials, told = folder / output, 2 * seeds, ""

    def wait_for(finished: int) -> None:
        """Until so many trials have finished, and then a moment, into the middle of epochs."""
        while len([*run.rglob("result.json")]) < finished and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(folder, output, "--ray", cluster.address),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    try:
        driver = start()
        wait_for(trials // 6)
        cluster.remove_node(nodes[0], allow_graceful=False)
        wait_for(trials // 3)
        driver.send_signal(signal.SIGKILL)
        told += driver.communicate()[1]
        driver = start()
        wait_for(trials // 2)
        cluster.remove_node(nodes[1], allow_graceful=False)
        told += driver.communicate()[1]
        if driver.returncode:
            raise RuntimeError(told)
    finally:
        cluster.shutdown()
    return digests(run), told.count("was lost")


def main() -> None:
    """Many rounds, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of two models: half as many as trials")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        expected = undisturbed(Path(scratch), asked.seeds)
        for number in range(asked.rounds):
            began = time.monotonic()
            found, lost = disturbed(Path(scratch), f"round-{number}", random.Random(number), asked.seeds)
            other = [name for name in expected | found if expected.get(name) != found.get(name)]
            counted = f"{lost} workers lost, {len(found)} files, {len(other)} differ"
            print(f"round {number}: {counted}, {time.monotonic() - began:.0f} s {other}", flush=True)


if __name__ == "__main__":
    main()

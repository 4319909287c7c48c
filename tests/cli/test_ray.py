"""A Ray cluster: a table trained on it, mistakes that are found before, and nodes and drivers that die."""

import random

import pytest

ray = pytest.importorskip("ray")
from node_deaths import disturbed, undisturbed  # noqa: E402 - where there is Ray


@pytest.mark.slow
def test_where_nodes_and_the_driver_die_every_file_is_as_undisturbed(tmp_path, trials):
    rounds, seeds = trials(1, 10), 12
    expected, lost = undisturbed(tmp_path, seeds), 0
    assert len(expected) == 4 * 2 * seeds
    for number in range(rounds):
        found, of_round = disturbed(tmp_path, f"round-{number}", random.Random(number), seeds)
        assert found == expected
        lost += of_round
    print(f"{rounds} rounds, 2 nodes and the driver killed in each, {lost} workers lost")
    assert lost >= rounds, "nodes died at work"

"""`stn-train bench` as its user sees it. What it measures is nowhere asserted."""

import json

BENCH = ("bench", "--threads", "1", "--only", "command/help")


def test_json_has_the_documented_keys(stn):
    ended = stn(*BENCH, "--json")
    assert ended.code == 0
    assert ended.err.startswith("row 1 of 1  command/help  ")
    assert ended.err.endswith("] s more\n")
    found = json.loads(ended.out)
    assert set(found) == {"environment", "source", "rows"}
    assert found["source"] == "digits"
    (row,) = found["rows"]
    assert set(row) == {"name", "opponent", "values", "median", "low", "high", "unit", "target", "reached"}
    assert (row["name"], row["unit"], row["target"]) == (
        "command/help",
        "s more",
        {"bound": "at most", "limit": 0.25},
    )
    assert min(row["values"]) == row["low"] <= row["median"] <= row["high"] == max(row["values"])
    assert row["reached"] is (row["median"] <= 0.25)


def test_the_table_has_a_line_a_row_and_says_where_it_was_measured(stn):
    ended = stn(*BENCH, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    header, line, empty, where = ended.out.splitlines()
    assert header.split() == ["row", "against", "median", "[lowest,", "highest]", "target", "reached"]
    assert line.startswith("command/help  python -c pass  ")
    assert line.endswith(("at most 0.25 s more      yes", "at most 0.25 s more       no"))
    assert empty == ""
    assert where.endswith("CPU threads: 1, digits: digits")


def test_a_pattern_that_matches_no_row_is_refused(stn):
    sentence = stn("bench", "--only", "nothing").sentence
    assert sentence.startswith("--only nothing matches no row; there are images/rts-torchvision, ")

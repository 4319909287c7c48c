#!/usr/bin/env bash
# Trains the networks of the paper's tables, several side by side, one thread each. What has finished is skipped, what was
# stopped goes on. The options go to every `stn-train run`: scripts/paper_tables.sh 2 --seeds 0 --data-root DIR
# What it has trained is kept, and written into docs/results.md, by
# python scripts/results.py runs/table1 runs/tc_paper runs/addition
set -euo pipefail

processes=${1:?how many side by side? For instance: scripts/paper_tables.sh 2 --seeds 0}
options=${*:2}
for config in paper/table1 paper/tc paper/addition; do
    # shellcheck disable=SC2086
    stn-train run --config "$config" $options --dry-run | awk -v head="--config $config $options" \
        'NR > 1 && NF > 2 { print head, "--only", $1 "/" $2 }'
done | xargs -P "$processes" -L 1 stn-train run --threads 1

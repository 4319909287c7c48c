#!/usr/bin/env bash
# Trains the networks of the paper's tables, several side by side, one thread each. What has finished is skipped, what was
# stopped goes on. The options go to every `stn-train run`: scripts/paper_tables.sh 2 --seeds 0 --data-root DIR
# What it has trained is kept, and written into docs/results.md, by
# python scripts/results.py runs/table1 runs/tc_paper runs/addition
set -euo pipefail

processes=${1:?how many side by side? For instance: scripts/paper_tables.sh 2 --seeds 0}
cells=()
for config in paper/table1 paper/tc paper/addition; do
    plan=$(stn-train run --config "$config" "${@:2}" --dry-run --json -q)
    while read -r cell; do
        cells+=(--config "$config" --only "$cell")
    done < <(python3 -c 'import json, sys
for cell in json.load(sys.stdin)["cells"]: print(cell["dataset"], cell["model"], sep="/")' <<< "$plan")
done
printf '%s\0' "${cells[@]}" | xargs -0 -P "$processes" -n 4 stn-train run --threads 1 "${@:2}"

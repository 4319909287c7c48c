#!/usr/bin/env bash
# How much faster two processes are than one, with one thread each: the quickstart with three seeds, on two idle cores.
# Prints both times and their ratio, and compares what both have found byte for byte.
#   scripts/jobs_speedup.sh [OPTION...]      for instance --set training.epochs=1
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
seconds=()
for jobs in 1 2; do
    began=$(date +%s.%N)
    python -m stn_train run --config quickstart --seeds 0,1,2 --threads 1 --jobs $jobs -q "$@" \
        --output-dir "$scratch/$jobs" >/dev/null
    seconds+=("$(echo "$(date +%s.%N) - $began" | bc)")
done
(cd "$scratch/1/trials" && find . -name result.json -o -name predictions.npz -o -name metrics.jsonl) | sort |
    while read -r file; do cmp "$scratch/1/trials/$file" "$scratch/2/trials/$file"; done
echo "one process ${seconds[0]} s, two ${seconds[1]} s: $(echo "scale=2; ${seconds[1]} / ${seconds[0]}" | bc) x"

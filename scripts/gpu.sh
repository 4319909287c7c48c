#!/usr/bin/env bash
# What to measure while a GPU is at hand, the most telling first. What is worth keeping is in OUT, small enough to bring
# back: bench.json, a log for each part, and runs.tgz, all runs without their checkpoints (for scripts/results.py).
#   scripts/gpu.sh OUT [DEVICE] [MINUTES] [OPTION...]      for instance scripts/gpu.sh /tmp/gpu cuda 10
# A try on a CPU: scripts/gpu.sh /tmp/try cpu 2 --set source=digits --set training.epochs=1
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "$1") device=${2:-cuda} minutes=${3:-10}
options=("${@:4}")
runs=$(mktemp -d)
mkdir -p "$out"
began=$SECONDS

# part NAME SHARE COMMAND...: at most this share, in percent, of all the time; another part's failure stops none.
part() {
    local name=$1 limit=$(($2 * minutes * 60 / 100)) since=$SECONDS
    timeout --signal=INT --kill-after=20 "$limit" "${@:3}" >"$out/$name.log" 2>&1
    echo "$name: exit code $?, $((SECONDS - since)) s of $limit" | tee -a "$out/parts.txt"
}
trials() { part "$1" "$2" python -m stn_train run --device "$device" --output-dir "$runs/$1" -q "${@:3}" "${options[@]}"; }

nvidia-smi >"$out/machine.txt" 2>&1 || lscpu >"$out/machine.txt"
part bench 20 bash -c "python scripts/benchmark --only 'training/*' --device $device --json >'$out/bench.json'"
# Time to 0.5 % on RTS, in short trainings of large batches: what is left in evaluation is told apart by timing.json.
for epochs in 8 16 32; do
    trials "rts_$epochs" 8 --config rts --only rts/st_cnn_zoom --seeds 1,2,3 --set training.epochs=$epochs \
        --set training.batch_size=512
done
# Side by side: the same eight trainings by one process and by eight, on one GPU; their seconds are in parts.txt.
for jobs in 1 8; do
    trials "jobs_$jobs" 10 --config rts --only rts/st_cnn_zoom --seeds 0,1,2,3,4,5,6,7 --jobs $jobs \
        --set training.epochs=2
done
# The paper's cells that are above its figure, in as many epochs as the paper's: as many as fit.
trials longer $((100 - 20 - 3 * 8 - 2 * 10 - 2)) --config paper/table1 --only 'r*/*cnn_paper' --seeds 0 --jobs 3 \
    --set training.epochs=640 --set training.batch_size=512
tar czf "$out/runs.tgz" -C "$runs" --exclude='*.pt' --exclude='*.png' --exclude='*.gif' .
rm -rf "$runs"
echo "all: $((SECONDS - began)) s" | tee -a "$out/parts.txt"
du -h "$out"/*

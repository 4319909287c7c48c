#!/usr/bin/env bash
# Time to error: ST-CNNs of 400,000 parameters, three seeds each, for as many epochs as fit into ten minutes on two CPU
# cores that compute in bfloat16 (float32 alone takes twice as long). The table at the end has the error of every seed,
# their mean, and the mean seconds of training. Seed 0 was used for tuning, so it is not among them.
set -euo pipefail
cd "$(dirname "$0")/.."

run() { stn-train run --config scripts/time_to_error.yaml "$@"; }
run --only 'rts*/*' --output-dir runs/rts_ten_minutes
run --only 'tc*/*' --set training.epochs=21 --output-dir runs/tc_ten_minutes
python - runs/{rts,tc}_ten_minutes/report.csv << 'END'
import csv, sys
told = ("dataset", "model", "seed_errors", "error", "training_seconds")
print(*told, sep=",")
for path in sys.argv[1:]:
    for line in csv.DictReader(open(path, encoding="utf-8")):
        print(*(line[name] for name in told), sep=",")
END

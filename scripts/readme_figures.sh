#!/usr/bin/env bash
# Makes every table and picture of the README and the docs again; about an hour on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/.."

stn-train run --config quickstart
stn-train run --config rts
stn-train run --config tc
stn-train data preview --config rts --set 'datasets=[rotation,translation,scale,shear,r,rts,tc]' -o docs/distortions.png
for run in rts tc; do
    cp "runs/$run/figures/learning_curves@$run.png" "docs/learning_curves_$run.png"
    cp "runs/$run/figures/transformer_st_cnn@$run.png" "docs/transformer_$run.png"
done

#!/usr/bin/env bash
# Makes every picture of the README and the docs again, and what their tables tell but for the paper's, which are
# paper_tables.sh's; some five hours on two CPU cores, by the times of its parts.
set -euo pipefail
cd "$(dirname "$0")/.."

stn-train run --config quickstart
python scripts/shipped.py
stn-train run --config rts
stn-train run --config tc
stn-train run --config tc_modern
stn-train run --config evidence
stn-train robustness runs/evidence
stn-train run --config paper/tc --only 'tc/*fcn' --seeds 0
stn-train run --config paper/addition --only addition/st2_cnn_paper --seeds 0
stn-train run --config paper/table1 --only 'r*/st_cnn_paper' --seeds 0
stn-train data preview --config rts --set 'datasets=[rotation,translation,scale,shear,r,rts,rts_wide,p,p_literal,p_outward,e,tc,tc_wide,addition,addition_wide]' \
    -o docs/distortions.png
python scripts/family_grids.py docs/families.png
cp "runs/table1/figures/examples_st_cnn_paper@rts.png" docs/transformer_rts.png
cp "runs/table1/figures/rotation_sweep_st_cnn_paper@r.png" docs/turning_r.png
cp "runs/quickstart/figures/rotation_sweep_st_equivariant@rts.png" docs/turning_quickstart.png
cp "runs/tc/figures/examples_st_cnn_paper_keypoints@tc.png" docs/transformer_tc.png
cp "runs/evidence/figures/courses@rts.png" docs/courses_rts.png
cp "runs/evidence/figures/robustness@rts.png" docs/robustness_rts.png
cp "runs/evidence/figures/training_st_cnn_zoom@rts.gif" docs/training_rts.gif
cp "runs/tc_paper/figures/examples_st_fcn@tc.png" docs/examples_tc_fcn.png
cp "runs/addition/figures/examples_st2_cnn_paper@addition.png" docs/examples_addition.png
stn-train demo runs/shipped --no-open -o docs/demo.html
python scripts/demo_gif.py runs/shipped

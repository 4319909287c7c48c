"""`python -m stn_train` is `stn-train`."""

from stn_train.cli import main

main()

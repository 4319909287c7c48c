"""Runs command lines of stn-train, each in a process of its own that need not import torch again.

Reads one JSON object a line, {"arguments": [...], "folder": "..."}; forks, and answers with the child's id, then with
its exit code (negative: the signal that ended it). The child works in the folder and writes to `stdout` and `stderr`
there. Where the object has them, its disk takes `drag` seconds for each file, none has more than `largest` bytes, and
memory of `exact` bytes and more goes back to the system as soon as it is free, which a session would have kept.
It knows as many digits as this one's two arguments say, to train on and to test, each shown once an epoch.
"""

import ctypes
import json
import os
import resource
import sys
import time
import traceback
from typing import NoReturn

import torch

import stn_train.experiment.run
import stn_train.report.write  # noqa: F401 - what every child would import
from stn_train.cli import main
from stn_train.data import images
from stn_train.data.sources import load_images
from stn_train.experiment import runtime as runtime
from stn_train.models.network import build_model
from stn_train.specs import ModelSpec

_MMAP_THRESHOLD = -3  # malloc.h


def child(arguments: list[str], folder: str, drag: float = 0.0, largest: int = 0, exact: int = 0) -> NoReturn:
    os.chdir(folder)
    if exact:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, exact)
        runtime.ctypes = None
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if drag:
        os.fsync = lambda file: time.sleep(drag)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["stn-train", *arguments]
    code = 1
    try:
        main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


training, test = (
    images.ImageSet(split.images[:count], split.labels[:count])
    for split, count in zip(load_images("digits"), map(int, sys.argv[1:]), strict=True)
)
images.scikit_digits = lambda: (training, test)
torch.set_num_threads(1)
build_model(ModelSpec.model_validate("cnn"), (28, 28))  # imports more of torch
for line in sys.stdin:
    order = json.loads(line)
    process = os.fork()
    if process == 0:
        child(**order)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)

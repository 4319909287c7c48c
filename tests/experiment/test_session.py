"""What a session sets for its process."""

import platform
import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from stn_train.experiment.session import open_session

open_session("cpu", 1, None)

def use():
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(10):  # until what is small has found places of its own
    before = use()
for _ in range(10):
    after = use()
print(after - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_memory_that_a_tensor_has_freed_is_not_fetched_anew_for_the_next():
    """Ten tensors of 64 MB; one or two may find their place taken by something small, and get another."""
    ended = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    pages = 2**26 // resource.getpagesize()
    assert int(ended.stdout) < 3 * pages

"""What can be imported from the package itself."""

import subprocess
import sys

import pytest

import stn_train


@pytest.mark.parametrize("name", stn_train.__all__)
def test_every_public_name_is_found_and_listed(name: str) -> None:
    assert getattr(stn_train, name) is not None
    assert name in dir(stn_train)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        stn_train.nothing  # noqa: B018


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, stn_train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

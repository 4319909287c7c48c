"""Inputs made up by hypothesis, the same every time, and counted."""

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

T = TypeVar("T")
Distortion = Callable[[st.SearchStrategy[Any]], Any]


def fuzz(times: int, make: Callable[[Distortion], T], check: Callable[[T], None]) -> int:
    """Check `times` inputs, or all that there are where there are fewer; how many they were."""
    tried = 0

    @settings(
        max_examples=times,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def each(data: st.DataObject) -> None:
        nonlocal tried
        made = make(data.draw)
        tried += 1
        check(made)

    each()
    return tried

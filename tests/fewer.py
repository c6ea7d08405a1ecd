"""Of many cases of one test, the few that stand for all in the default suite; `pytest -m slow` runs the others."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def fewer(cases: Iterable[Any], *standing: Any, each: int = 0) -> list[Any]:
    """The cases, all but some marked slow: the `standing` ones, or else every `each`-th, the first included."""
    kept: Collection[Any] = standing
    return [
        case if (case in kept if not each else number % each == 0) else _slow(case) for number, case in enumerate(cases)
    ]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)

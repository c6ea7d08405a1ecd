"""What the numbers of a weights file must be, looked over as they are read."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from dallecli.errors import BadFile, BadSetting, LayoutMismatch
from dallecli.weights.header import FETCH_AGAIN


def check_numbers(numbers: Tensor, name: str, file: Path, dtype: torch.dtype) -> float:
    """The largest magnitude of some numbers [n] of the tensor `name`, which are to be converted to `dtype`.

    Raises: LayoutMismatch for NaN or infinity; BadSetting for what `dtype` cannot hold.
    """
    # Smallest and largest are NaN or infinite if any number is: one fast pass.
    low, high = (end.item() for end in torch.aminmax(numbers))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise LayoutMismatch(f"the weights are not finite: {name} holds NaN or infinity", str(file), FETCH_AGAIN)
    most = max(abs(low), abs(high))
    if most > torch.finfo(dtype).max:
        said = f"{name} holds {most:.3g}, which is too large for {str(dtype).removeprefix('torch.')}"
        raise BadSetting(said, str(file), "use fp32")
    return most


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn what reading may answer, the end of the file among it, into BadFile."""
    try:
        yield
    except (OSError, EOFError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise BadFile(f"the weights cannot be read: {why}", str(file), FETCH_AGAIN) from problem

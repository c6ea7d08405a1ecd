"""Memory: what of a model stays there, whether it suffices, and what is said when it does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dallecli.errors import OutOfMemory
from dallecli.pipelines.description import Description

if TYPE_CHECKING:
    from dallecli.placement import MemoryPlan, Placement


def plan_model(model: Description, placement: "Placement", kind: str) -> "MemoryPlan":
    """What of a model stays in memory, by a plan of this kind (`placement.MEMORY`). Raises BadSetting, BadFile."""
    from dallecli.placement import Need, free_memory, plan_memory

    needs = {
        part: Need(
            weights=count * placement.dtype.itemsize,
            # Whatever the weights are, some layers compute in float32.
            working=model.folder.working_numbers(part) * 4,
        )
        for part, count in model.parameters.items()
    }
    return plan_memory(needs, free_memory(placement.device), kind)


def check_memory(model: str, placement: "Placement", plan: "MemoryPlan") -> None:
    """Refuse what cannot fit: on a CPU the system would otherwise end this process, or another, without a word.

    Raises: OutOfMemory, with what would fit.
    """
    if plan.free is None or plan.fits:
        return
    from dallecli.placement import in_words

    ways = []
    if plan.least <= plan.free:
        ways.append("--memory low")
    if placement.dtype.itemsize == 4:
        ways.append("--dtype bf16 for half of it")
    raise OutOfMemory(
        f"{model} takes {in_words(plan.peak)} in {placement.kind},"
        f" and {in_words(plan.free)} are free on {placement.device}",
        hint=" or ".join([*ways, "a smaller model"]),
    )


@contextmanager
def memory_errors(model: str) -> Iterator[None]:
    """Turn every way in which Python and torch say that memory is used up into OutOfMemory."""
    import torch

    hint = "close other programs, paint fewer or smaller pictures, or use a smaller model"
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as problem:
        raise OutOfMemory(f"there is not enough memory for {model}", hint=hint) from problem
    except RuntimeError as problem:  # torch's CPU allocator has no class of its own
        if "can't allocate memory" not in str(problem) and "out of memory" not in str(problem):
            raise
        raise OutOfMemory(f"there is not enough memory for {model}", hint=hint) from problem


def release(kind: str) -> None:
    """Give back to a kind of device what is free of the memory that was taken of it."""
    if kind == "cuda":
        import torch

        torch.cuda.empty_cache()

"""Memory: what of a model stays in it, whether there is enough, and the error if there is not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dallecli.errors import OutOfMemory
from dallecli.pipelines.description import Description

if TYPE_CHECKING:
    from dallecli.placement import MemoryPlan, Placement


def plan_model(
    model: Description, placement: "Placement", kind: str, pixels: int = 0, free: int | None = None
) -> "MemoryPlan":
    """The memory plan of a model, of this kind (`placement.MEMORY`).

    It is for pictures of so many pixels, and never for smaller ones than the model's own. `free` bytes are there; None
    asks the device. Raises BadSetting, BadFile.
    """
    from dallecli.placement import Need, free_memory, plan_memory

    larger = max(1.0, pixels / model.spec.sizes[-1] ** 2)
    needs = {
        part: Need(
            weights=count * _width(model, part, placement) + _in_single(model, part, placement),
            # Whatever the type of the weights, some layers compute in float32.
            working=round(model.folder.working_numbers(part) * 4 * larger) + _beside(model, part) * placement.width,
        )
        for part, count in model.parameters.items()
    }
    return plan_memory(needs, free if free is not None else free_memory(placement.name), kind)


def _width(model: Description, part: str, placement: "Placement") -> int:
    """The bytes of a number of a network."""
    return 4 if part in model.folder.family.precise else placement.width


def _beside(model: Description, part: str) -> int:
    """The numbers of the network that is at work beside another one; 0 if none is."""
    return model.parameters.get(model.folder.family.beside.get(part, ""), 0)


def _in_single(model: Description, part: str, placement: "Placement") -> int:
    """The bytes that a network takes besides, because some of its numbers stay in float32."""
    return model.folder.single_numbers(part) * (4 - placement.width) if placement.kind == "fp16" else 0


def check_memory(model: str, placement: "Placement", plan: "MemoryPlan") -> None:
    """Refuse a model that cannot fit: the system would otherwise kill this process or another one without a word.

    Raises: OutOfMemory, whose hint says what would fit.
    """
    if plan.free is None or plan.fits:
        return
    from dallecli.placement import in_words

    ways = []
    if plan.least <= plan.free:
        ways.append("--memory low")
    if placement.width == 4:
        ways.append("--dtype bf16 for half of it")
    raise OutOfMemory(
        f"{model} takes {in_words(plan.peak)} in {placement.kind},"
        f" and {in_words(plan.free)} are free on {placement.name}",
        hint=" or ".join([*ways, "a smaller model"]),
    )


@contextmanager
def memory_errors(model: str) -> Iterator[None]:
    """Turn every error of Python and torch for exhausted memory into OutOfMemory."""
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
    """Return free memory to a kind of device."""
    if kind == "cuda":
        import torch

        torch.cuda.empty_cache()

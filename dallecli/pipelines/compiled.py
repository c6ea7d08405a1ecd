"""Steps of networks compiled by torch, for whoever paints hundreds of pictures on a GPU.

torch's compiler fuses the small operations between convolutions and matrix products. It takes a minute or so for each
network, so nothing is compiled without --compile. A compiled step serves every later run, whatever is painted: it is
one function of the sample, the time and the run's conditions (`nets/conditions.py`).
"""

import logging
from collections.abc import Callable
from typing import Any, Final
from weakref import ref

import torch
from torch import Tensor, nn

from dallecli.nets.conditions import AHEAD, Time, Times

BACKEND: Final = "inductor"

log = logging.getLogger(__name__)


def compile_step(net: nn.Module, step: str, part: str) -> None:
    """Compile the method `step` of a network when it is called for the second time.

    `part` is the network's name. Samples of another shape than the first are computed without compiling, and so are all
    samples where the network cannot be compiled, for lack of Triton or a C compiler; a warning says so once.
    """
    setattr(net, step, _CompiledStep(net, step, part))


class _CompiledStep:
    """Replaces a network's own method. It refers to the network weakly, or the network could not be released."""

    def __init__(self, net: nn.Module, name: str, part: str) -> None:
        self._net = ref(net)
        self._plain: Callable[..., Tensor] = getattr(type(net), name)
        self._compiled: Callable[..., Tensor] = torch.compile(self._plain, backend=BACKEND, dynamic=False)
        self._part = part
        self._times: Callable[[], Times | None] = lambda: None
        self._shape: torch.Size | None = None
        self._possible = True

    def __call__(self, x: Tensor, *given: Any) -> Tensor:
        net = self._net()
        assert net is not None  # it is what was called
        told = self._without_numbers(x, given)
        if told is None or not self._possible or self._shape not in (None, x.shape):
            return self._plain(net, x, *given)
        if self._shape is None:
            return self._first(net, x, *told)
        with torch.compiler.set_stance("eager_on_recompile"):
            return self._compiled(net, x, *told)

    def _without_numbers(self, x: Tensor, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The arguments with the step's place as a tensor; otherwise every place would be compiled separately.

        None for the first step of a run, in which layers compute what the others need, and for steps whose place the
        device cannot look up.
        """
        if not isinstance(given[0], Time):
            return given
        times, place, rows = given[0]
        if self._times() is not times:
            self._times = ref(times)
            return None
        if isinstance(place, Tensor):
            return given
        return (Time(times, torch.full((1,), place, device=x.device), rows), *given[1:]) if place < AHEAD else None

    def _first(self, net: nn.Module, x: Tensor, *told: Any) -> Tensor:
        log.info("compiling the %s, which takes a minute or so", self._part)
        try:
            output = self._compiled(net, x, *told)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as problem:  # whatever goes wrong in a compiler becomes one
            log.warning("the %s is not compiled: %s", self._part, " ".join(str(problem).split("\n")[:2]))
            self._possible = False
            return self._plain(net, x, *told)
        self._shape = x.shape
        return output

"""Steps of networks as CUDA graphs: all their kernels launched at once, where launching them takes longer than running.

A step of a decoder is several hundred kernels, and the processor needs longer to launch them one by one than a large
GPU needs to run them (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/). Whether that is so is measured,
and a graph is used only if it reproduces what was computed without it.
"""

import logging
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

import torch
from torch import Tensor

from dallecli.nets.conditions import AHEAD, Place

Net = Callable[[Tensor, Place], Tensor]
"""A network with its conditions bound: a noisy sample [b c ...] and the place of the step in its run give raw output.

Whatever does not depend on these two stays where it is in memory for the whole run, and no call waits for the device.
"""

WORTH: Final = 1.2
"""A step that takes longer than its launch by this factor is not waiting for launches."""
APART: Final = 0.01
"""How far the graph's output may be from the network's, as a share of its norm: sums may be split in another way."""

log = logging.getLogger(__name__)


class Graphs:
    """Makes graphs of the steps of a run, on one device, if that is a CUDA device.

    From the `timed_call` of a network on, all its calls are alike, so timing one is enough.
    """

    def __init__(self, device: torch.device, timed_call: int = 2) -> None:
        self.possible = device.type == "cuda"
        self.timed_call = timed_call
        self._made: WeakSet[_Graphed] = WeakSet()

    def of(self, net: Net, steps: int) -> Net:
        """A network for a run of so many different steps, which uses a graph as soon as it has one that pays."""
        if not self.possible or steps > AHEAD:  # beyond it what layers know of the times moves in memory
            return net
        graphed = _Graphed(net, self)
        self._made.add(graphed)
        return graphed

    def forget(self) -> None:
        """Stop using all graphs that were made: a network in them was released."""
        for graphed in self._made:
            graphed.replay = None

    def give_up(self, why: object) -> None:
        """Make no more graphs."""
        log.warning("CUDA graphs are left out: %s", why)
        self.possible = False

    def timed(self, net: Net, x: Tensor, place: Place) -> tuple[Tensor, bool]:
        """The output of a net, and whether the device had to wait for launches."""
        torch.cuda.synchronize(x.device)
        began = time.perf_counter()
        output = net(x, place)
        launched = time.perf_counter()
        torch.cuda.synchronize(x.device)
        return output, time.perf_counter() - began < WORTH * (launched - began)

    def capture(self, net: Net, x: Tensor, place: Place) -> Net:
        """A graph of a net, for inputs of the shape of `x`. Raises RuntimeError for what CUDA can't capture."""
        graph, still_x = torch.cuda.CUDAGraph(), x.clone()
        still_place = torch.zeros(1, dtype=torch.int64, device=x.device)
        with torch.cuda.device(x.device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            still_output = net(still_x, still_place)

        def replay(x: Tensor, place: Place) -> Tensor:
            still_x.copy_(x)
            still_place.fill_(place)
            graph.replay()
            return still_output.clone()  # the next replay writes over it

        return replay


class _Graphed:
    """The first call does what a run needs once; the timed call decides about a graph; the later calls use it."""

    def __init__(self, net: Net, graphs: Graphs) -> None:
        self.replay: Net | None = None
        self._net = net
        self._graphs = graphs
        self._calls = 0

    def __call__(self, x: Tensor, place: Place) -> Tensor:
        self._calls += 1
        if self.replay is not None:
            return self.replay(x, place)
        if self._calls != self._graphs.timed_call or not self._graphs.possible:
            return self._net(x, place)
        output, waits = self._graphs.timed(self._net, x, place)
        if waits:
            self._try(x, place, output)
        return output

    def _try(self, x: Tensor, place: Place, wanted: Tensor) -> None:
        try:
            replay = self._graphs.capture(self._net, x, place)
            found = replay(x, place)
        except RuntimeError as problem:  # what can't be captured, or no memory for it
            self._graphs.give_up(problem)
            return
        if bool((found - wanted).norm(dtype=torch.float32) <= APART * wanted.norm(dtype=torch.float32)):
            self.replay = replay
        elif bool(wanted.isfinite().all()):
            self._graphs.give_up("a graph computed something else")

"""The parts of an opened model folder, whatever its family: configs, schedules, and networks that come and go.

A network is read when it is first needed. The memory plan says which ones stay; of the others only the one at work is
in memory. Under every plan the networks, and so the pictures, are the same to the last bit.
"""

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor, nn

from dallecli.devices import native_bf16
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Schedule
from dallecli.errors import BadFile, BadFolder, NonFinite
from dallecli.nets.batch_invariant import make_batch_invariant
from dallecli.nets.layers import channels_last
from dallecli.nets.prepacked import can_prepack, large_weights, prepack
from dallecli.nets.single import multiply_in_single
from dallecli.pipelines.allocator import keep_freed, return_freed, trim
from dallecli.pipelines.compiled import compile_step
from dallecli.pipelines.graphs import Graphs
from dallecli.weights.folder import Folder
from dallecli.weights.load import open_net

N = TypeVar("N", bound=nn.Module)
C = TypeVar("C")

log = logging.getLogger(__name__)

WIDER: Final = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
"""The type in which a stage is done again when it overflows."""


class Parts:
    """A model folder, opened on a device in a floating-point type. `kept` names the networks that stay; None is all.

    With `compiled` the steps of those that stay are compiled. With `batch_invariant` networks on a CPU round a picture
    alike, however many are computed at once and by however many threads. Code that runs a network asks for it each time
    and keeps no reference; otherwise it could not be released.
    """

    def __init__(
        self,
        folder: Folder,
        device: torch.device,
        dtype: torch.dtype,
        kept: Collection[str] | None = None,
        compiled: bool = False,
        batch_invariant: bool = False,
    ) -> None:
        self.folder = folder
        self.device = device
        self.dtype = dtype
        self.kept = kept
        self.compiled = compiled
        self.batch_invariant = batch_invariant
        # The second call of a compiled network's step compiles it.
        self.graphs = Graphs(device, timed_call=3 if compiled else 2)
        self._nets: dict[tuple[str, torch.dtype], nn.Module] = {}

    @property
    def loaded(self) -> tuple[str, ...]:
        """The networks that are in memory now."""
        return tuple(part for part, _ in self._nets)

    def net(self, part: str, build: Callable[[dict[str, Any]], N], dtype: torch.dtype, *, gradients: bool = False) -> N:
        """The network of a part in `dtype`, which is wider than the model's own only after an overflow.

        gradients: whether gradients go through it, which the fastest layers for a CPU do not let pass.

        Raises what `load_net` raises, but for large weights on a CPU, which are read and checked in the first step.
        """
        if (part, dtype) not in self._nets:
            self._release()
            return_freed()
            config = self.folder.config(part)
            family, file = self.folder.family, self.folder.weights_file(part)
            step = family.steps.get(part)
            single, foreign = family.single.get(part), family.foreign.get(part, ())
            packed = not gradients and _is_packed(self.device, dtype)
            # Where threads share work so that rounding never changes, layers are replaced once more.
            later = large_weights if packed and not self.batch_invariant else None
            net, unread = open_net(lambda: build(config), file, dtype, self.device, single, foreign, later)
            if packed:
                prepack(net, {name: partial(unread.read, name) for name in unread.names})
                if unread.names and step is not None:
                    keep_freed()  # no weights will leave holes, and the first step has large images, too
            else:
                channels_last(net)
                if _is_emulated(self.device, dtype):
                    multiply_in_single(net)
            if self.batch_invariant:
                make_batch_invariant(net)
            if self.compiled and step is not None and self._stays(part, dtype):
                compile_step(net, step, part)
            self._nets[part, dtype] = net
        return cast(N, self._nets[part, dtype])

    def config(self, part: str, read: Callable[[dict[str, Any]], C]) -> C:
        """The config of a network. Raises BadFile if no network can be built from it."""
        try:
            return read(self.folder.config(part))
        except ValueError as problem:
            raise BadFile(f"this network can't be built: {problem}", str(self.folder.path_of(part))) from problem

    def schedule(self, part: str) -> Schedule:
        """The schedule of a part. Raises BadFile if it can't be run."""
        try:
            return Schedule.from_config(self.folder.config(part))
        except ValueError as problem:
            raise BadFile(f"this schedule can't be run: {problem}", str(self.folder.path_of(part))) from problem

    def check_variance(self, schedule: str, network: str) -> None:
        """Raise BadFile where a schedule leaves the variance to a network that never predicts one."""
        if self.schedule(schedule).variance_type == "learned_range":
            what = (
                f"this schedule can't be run: variance_type is 'learned_range', and the {network} predicts no variance"
            )
            raise BadFile(what, str(self.folder.path_of(schedule)))

    def check_same(self, what: str, part: str, size: int, other: str, other_size: int | None) -> None:
        """Raise BadFolder if two parts that must agree on a size do not."""
        if size != other_size:
            raise BadFolder(
                f"the {what} is {size} in the {part} and {other_size} in the {other}",
                str(self.folder.path),
                "these parts are of different models",
            )

    def dtype_of(self, part: str) -> torch.dtype:
        """The type in which a network computes at first: the model's, but for those that need float32."""
        return torch.float32 if part in self.folder.family.precise else self.dtype

    def finite(
        self,
        stage: str,
        noise: Noise | None,
        run: Callable[[torch.dtype], tuple[Tensor, Tensor]],
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return the result of `run`, which also returns whether each picture [b] stayed finite.

        It is run in `dtype`, the model's if that is not given.

        Pictures that did not are replaced by those of a second run in a wider type with the same noise. The others stay
        as they are, so a picture does not depend on its neighbours. Raises NonFinite if that does not help.
        """
        state = noise.state() if noise is not None else []
        first = dtype if dtype is not None else self.dtype
        result, healthy = run(first)
        if bool(healthy.all()):
            return result
        wider = WIDER.get(first)
        if wider is not None:
            log.warning("the %s overflowed in %s and is done again in %s", stage, first, wider)
            if noise is not None:
                noise.rewind(state)
            again, healthy_again = run(wider)
            result = torch.where(healthy.view(-1, *[1] * (result.ndim - 1)), result, again)
            healthy = healthy | healthy_again
        if not bool(healthy.all()):
            raise NonFinite(
                f"the {stage} gave numbers that are not finite", str(self.folder.path), "try a lower guidance"
            )
        return result

    def _release(self) -> None:
        """Free what the plan does not keep."""
        leaving = [key for key in self._nets if not self._stays(*key)]
        for key in leaving:
            del self._nets[key]
        if leaving:
            self.graphs.forget()
            trim(self.device)

    def _stays(self, part: str, dtype: torch.dtype) -> bool:
        return dtype == self.dtype_of(part) and (self.kept is None or part in self.kept)


def _is_packed(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether layers are faster with their weights in oneDNN's order."""
    known = device.type == "cpu" and dtype in (torch.float32, torch.bfloat16)
    return known and not _is_emulated(device, dtype) and can_prepack()


def _is_emulated(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a CPU has no arithmetic for a type."""
    return device.type == "cpu" and dtype == torch.bfloat16 and native_bf16() is None

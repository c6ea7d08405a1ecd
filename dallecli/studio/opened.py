"""A model on a device, with its networks, ready to paint. One at a time is kept: they are large."""

import gc
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dallecli.errors import BadFile, TaskNotSupported
from dallecli.pipelines.description import Description
from dallecli.pipelines.pipeline import Clip, Pipeline
from dallecli.recipe import Recipe
from dallecli.studio.batches import SMALL, is_batch_invariant
from dallecli.studio.memory import check_memory, memory_errors, plan_model
from dallecli.studio.used import Digests
from dallecli.weights.lock import check_bytes

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture
    from dallecli.placement import MemoryPlan, Placement

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An opened model, and what a recipe states of it."""

    source: str
    placement: "Placement"
    digests: Digests
    pipeline: Pipeline
    compiled: bool
    plan: "MemoryPlan"
    pixels: int
    """Of the largest pictures for which there is room beside the networks that stay; 0 for the model's own."""
    batch_invariant: bool
    """Whether its pictures depend neither on how many are painted at once, nor on the number of threads."""

    @property
    def whole(self) -> bool:
        """Whether all its networks stay in memory."""
        return self.plan.kept >= set(self.plan.needs)

    @property
    def kind(self) -> str:
        """What decides how many pictures are painted at once: the type of device, or `SMALL`."""
        return SMALL if self.batch_invariant else self.placement.device.type

    def complete(self, recipe: Recipe) -> Recipe:
        """The recipe with the weights, and all of the machine that its pixels depend on."""
        placed_here = placed(recipe, self.placement, compiled=self.compiled, batch_invariant=self.batch_invariant)
        return replace(placed_here, digest=self.digests.of(recipe))

    def finished(self, picture: "Picture") -> "Picture":
        """A painted picture whose recipe states how many were painted with it where that matters only."""
        if self.batch_invariant:
            picture = replace(picture, recipe=replace(picture.recipe, together=None))
        return picture


def placed(recipe: Recipe, placement: "Placement", *, compiled: bool, batch_invariant: bool) -> Recipe:
    """The recipe with what its pixels depend on: device, number type, processor, torch, and `compiled` where it is.

    Unless they are the same for all of these: how many threads, and pictures at a time.
    """
    import torch

    from dallecli.placement import processor

    return replace(
        recipe,
        device=placement.name,
        dtype=placement.kind,
        threads=torch.get_num_threads() if placement.device.type == "cpu" and not batch_invariant else None,
        together=None if batch_invariant else recipe.together,
        compiled=compiled and placement.device.type == "cuda",
        versions={**recipe.versions, "torch": str(torch.__version__), **processor(placement.device)},
    )


def clip_of(opened: Opened, name: str) -> Clip:
    """What the CLIP of an opened model does; `name` is the model's. Raises TaskNotSupported where it has none."""
    if opened.pipeline.clip is None:
        raise TaskNotSupported(f"{name} has no CLIP")
    return opened.pipeline.clip


class LastOpened:
    """Opens models and keeps the last one, whose memory is freed before the next is opened.

    memory: the kind of the memory plan. compiled: whether networks that stay in the memory of a GPU are compiled.
    """

    def __init__(self, memory: str, *, compiled: bool) -> None:
        self._memory = memory
        self.compiled = compiled
        self._opened: Opened | None = None

    def open_for(self, recipe: Recipe, model: Description) -> Opened:
        """The model of a recipe, where the recipe says.

        Raises:
            BadFile: its weights are not those that the recipe was painted with; or as `open`.
            MachineError: as `open`.
        """
        opened = self.open(model, recipe.device, recipe.dtype, recipe.size.pixels)
        if recipe.digest is not None and not opened.digests.accept(recipe, recipe.digest):
            raise BadFile(
                f"these are not the weights that the recipe was painted with: {recipe.digest[:12]}",
                str(model.folder.path),
                f"here is {opened.digests.of(recipe)[:12]}",
            )
        return opened

    def open(self, model: Description, device: str | None, dtype: str | None, pixels: int = 0) -> Opened:
        """The model on a device, for pictures of so many pixels; it is opened unless it is the last one.

        The last one is opened anew where pictures are so much larger that less of it can stay in memory.

        Raises:
            BadFile: a file is damaged.
            MachineError: there is no such device, or not enough memory.
        """
        from dallecli.placement import decide

        placement = decide(device, dtype)
        opened = self._opened
        if opened is None or (opened.source, opened.placement) != (model.spec.source, placement):
            self._opened = opened = None
            self._opened = opened = self._open(model, placement, pixels)
        elif pixels > opened.pixels and opened.plan.free is not None:
            plan = plan_model(model, placement, self._memory, pixels, opened.plan.free)
            if plan.kept == opened.plan.kept and plan.fits:
                self._opened = opened = replace(opened, plan=plan, pixels=pixels)
            else:
                opened = None
                self.close()
                self._opened = opened = self._open(model, placement, pixels)
        return opened

    def close(self) -> None:
        """Let go of the model, and return its memory. Nobody else may still hold it."""
        if self._opened is None:
            return
        from dallecli.pipelines.allocator import trim

        device = self._opened.placement.device
        self._opened = None
        gc.collect()  # networks and what runs them hold each other
        trim(device)

    def _open(self, model: Description, placement: "Placement", pixels: int) -> Opened:
        from dallecli.pipelines.parts import Parts

        plan = plan_model(model, placement, self._memory, pixels)
        check_memory(model.spec.name, placement, plan)
        check_bytes(model.spec.name)
        compiled = self.compiled and placement.device.type == "cuda"
        if self.compiled and not compiled:
            log.warning("networks are compiled for CUDA devices only, and this is %s", placement.name)
        batch_invariant = is_batch_invariant(model, placement)
        parts = Parts(model.folder, placement.device, placement.dtype, plan.kept, compiled, batch_invariant)
        with memory_errors(model.spec.name):
            pipeline = model.open(parts)
        digests = Digests.read(model.folder)
        source = model.spec.source
        return Opened(
            source=source,
            placement=placement,
            digests=digests,
            pipeline=pipeline,
            compiled=compiled,
            plan=plan,
            pixels=pixels,
            batch_invariant=batch_invariant,
        )

"""Pictures to codes and back, with the discrete autoencoder of a model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dallecli.codes_file import Coded, check_codebook, read_codes
from dallecli.engine import Progress
from dallecli.errors import BadSize, OutOfMemory, TaskNotSupported
from dallecli.inputs import check_inputs
from dallecli.limits import PAINTED_SIDE
from dallecli.pipelines.description import Description
from dallecli.pipelines.pipeline import Coder
from dallecli.size import Proportions, Size
from dallecli.sizing import settle_whole
from dallecli.studio.memory import memory_errors
from dallecli.studio.models import Models
from dallecli.studio.opened import LastOpened
from dallecli.tasks.coding import Coding
from dallecli.weights.registry import registry

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Coders:
    """What the models of this machine encode and decode with."""

    models: Models
    last: LastOpened

    def encode(self, request: Coding, progress: Callable[[Progress], None]) -> list[Coded]:
        """As `LocalEngine.encode`."""
        from dallecli.pictures.reading import read_picture

        model = self._find(request)
        # An autoencoder takes any size, also where what writes its codes has only so many places.
        size, cell = settle_whole(request.size, replace(model.spec, largest=PAINTED_SIDE)), model.folder.cell()
        if isinstance(request.size, Proportions):
            size = size.rounded_up(cell)
        if size.width % cell or size.height % cell:
            lower = Size(max(size.width // cell * cell, cell), max(size.height // cell * cell, cell))
            what = f"{size.stated} is no multiple of {cell} pixels, which a code stands for"
            raise BadSize(what, hint=f"--size {lower.stated}")
        check_inputs(request, size)
        check_room(size.pixels, request, model)
        codebook, name = model.folder.digest(), model.spec.name
        coder, found = self._open(request, model), []
        with memory_errors(name):
            for number, source in enumerate(request.inputs):
                codes = coder.encode(read_picture(source).image, size)
                found.append(
                    Coded(
                        codes=codes,
                        vocabulary=coder.vocabulary,
                        codebook=codebook,
                        model=name,
                        name=source.recorded().name,
                    )
                )
                progress(_done("encoder", number, request))
        return found

    def decode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Image]":
        """As `LocalEngine.decode`."""
        model = self._find(request)
        read = [(source.where, read_codes(source)) for source in request.inputs]
        codebook, images = model.folder.digest(), []
        for where, coded in read:
            check_codebook(coded, codebook, model.spec.name, where)
            check_room(coded.codes.size * model.folder.cell() ** 2, request, model)
        coder = self._open(request, model)
        with memory_errors(model.spec.name):
            for number, (_, coded) in enumerate(read):
                images.append(coder.decode(coded.codes))
                progress(_done("decoder", number, request))
        return images

    def _find(self, request: Coding) -> Description:
        model = self.models.find(request.model, request.task)
        if request.task not in model.spec.tasks:
            able = [name for name, spec in registry().items() if request.task in spec.tasks]
            raise TaskNotSupported(f"{model.spec.name} cannot {request.task}", hint=f"-m {' or '.join(able)}")
        return model

    def _open(self, request: Coding, model: Description) -> Coder:
        coder = self.last.open(model, request.device, request.dtype).pipeline.coder
        if coder is None:
            raise TaskNotSupported(f"{model.spec.name} has no codes")
        return coder


def check_room(pixels: int, request: Coding, model: Description) -> None:
    """Refuse what would not fit into memory: it grows with the pixels. Raises OutOfMemory, NoSuchDevice, BadSetting."""
    from dallecli.placement import decide, free_memory, in_words

    placement = decide(request.device, request.dtype)
    part, free = model.folder.family.tasks[request.task], free_memory(placement.name)
    needed = model.folder.working_numbers(part) * 4 * pixels // model.spec.sizes[-1] ** 2
    if free is not None and needed > free:
        what = (
            f"the {part.replace('_', ' ')} takes {in_words(needed)} for {pixels} pixels, and {in_words(free)} are free"
        )
        raise OutOfMemory(what, hint="a smaller --size in dalle encode")


def _done(stage: str, number: int, request: Coding) -> Progress:
    return Progress(stage=stage, step=1, steps=1, picture=number, pictures=len(request.inputs))

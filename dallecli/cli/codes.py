"""`dalle encode` and `dalle decode`: pictures as the codes of DALL·E 1's autoencoder, and back."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.safe import safe

if TYPE_CHECKING:
    from pathlib import Path

    from dallecli.cli.destination import Destination
    from dallecli.cli.display import Display
    from dallecli.engine import Progress
    from dallecli.source import Source

    Done = tuple[str, bytes, dict[str, object]]
    """What one input became: a name for its file, the bytes, and the facts for --json."""

CODES_ROOM: Final = 2**13
"""Bytes that the codes of a picture of the model's own size take, generously."""

PICTURE_ROOM: Final = 2**19
"""The same of such a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """What is asked of codes."""

    size: options.Size = None


@folded
def encode(
    files: options.PictureFiles,
    asked: EncodeOptions,
    model: options.CodingOptions,
    memory: options.MemoryOptions,
    server: options.ServerOptions,
    output: options.FileOptions,
    reporting: options.Reporting,
) -> None:
    """Turn pictures into the codes of DALL-E 1's autoencoder, or of another one.

    One small file for each picture. Its shorter side is scaled to 256 pixels, or to --size, and the middle square
    becomes one code for every 8 x 8 pixels, with vqgan-f16 for every 16 x 16. `dalle decode` makes a picture of codes.

    \b
    Examples:
      dalle encode cat.jpg -o cat.safetensors
      dalle encode cat.jpg -o - | dalle decode - -o again.png
      dalle encode *.jpg --out codes
    """
    from dallecli.cli.destination import choose_destination
    from dallecli.cli.display import Display
    from dallecli.source import EMBEDDING_SUFFIX
    from dallecli.tasks.builder import build_coding

    destination = choose_destination(
        output, results=len(files), noun="pictures", as_json=reporting.json, redirected=f"codes{EMBEDDING_SUFFIX}"
    )
    display, engine = Display(quiet=reporting.quiet), server.engine(memory)

    def work(source: "Source", progress: "Callable[[Progress], None]") -> "Done":
        request = build_coding("encode", {**options.values_of(model), "inputs": [source], "size": asked.size})
        (coded,) = engine.encode(request, progress)
        return f"{_stem(source)}-codes{EMBEDDING_SUFFIX}", coded.encode(), coded.facts()

    _work_on(files, work, destination, display, model.model, reporting, CODES_ROOM, "code file")


@folded
def decode(
    files: options.CodesFiles,
    model: options.CodingOptions,
    memory: options.MemoryOptions,
    server: options.ServerOptions,
    output: options.FormatOptions,
    reporting: options.Reporting,
) -> None:
    """Turn codes back into pictures.

    One picture for each file that `dalle encode` wrote. Codes mean something to the model that made them, and to no
    other: those of another one are refused.

    \b
    Examples:
      dalle decode cat.safetensors -o cat.png
      dalle decode codes/*.safetensors --out pictures
      dalle encode cat.jpg -o - | dalle decode - -o again.png
    """
    from dallecli.cli.destination import choose_destination
    from dallecli.cli.display import Display
    from dallecli.cli.output import format_of
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.picture import encode as encode_picture
    from dallecli.tasks.builder import build_coding

    destination = choose_destination(
        output, results=len(files), noun="files", as_json=reporting.json, redirected="picture.png"
    )
    format = output.format if output.format is not None else "png"
    if destination.file is not None:
        format = format_of(destination.file, output.format, moving=False)
    display, engine = Display(quiet=reporting.quiet), server.engine(memory)

    def work(source: "Source", progress: "Callable[[Progress], None]") -> "Done":
        request = build_coding("decode", {**options.values_of(model), "inputs": [source]})
        (image,) = engine.decode(request, progress)
        facts = {"name": source.recorded().name, "width": image.width, "height": image.height, "model": model.model}
        return f"{_stem(source)}{FORMATS[format]}", encode_picture(image, format, None), facts

    _work_on(files, work, destination, display, model.model, reporting, PICTURE_ROOM, "picture")


def _work_on(
    files: Sequence[str],
    work: "Callable[[Source, Callable[[Progress], None]], Done]",
    destination: "Destination",
    display: "Display",
    model: str,
    reporting: options.Reporting,
    room: int,
    noun: str,
) -> None:
    """Work on one file after the other, and write each result as soon as it is there; one bad file stops no other."""
    from dallecli.arguments import check_one_stdin
    from dallecli.cli.destination import probe_destination, put
    from dallecli.cli.display import clock
    from dallecli.cli.many import Many
    from dallecli.cli.painting import counted, places
    from dallecli.cli.results import note
    from dallecli.cli.run import Part
    from dallecli.source import read_source

    check_one_stdin(files)
    probe_destination(destination, room * len(files), display)
    began, many = time.perf_counter(), Many(len(files), display, as_json=reporting.json)
    paths: list[Path | None] = []
    with display.running(model, [Part(pictures=len(files))]):
        for number, file in enumerate(files):

            def progress(step: "Progress", number: int = number) -> None:
                display.progress(replace(step, picture=number, pictures=len(files)))

            with many.passing_over(file):
                name, data, facts = work(read_source(file), progress)
                path = put(destination, name, data)
                note(path)
                display.clear()
                _announce(path, data, facts, as_json=reporting.json)
                paths.append(path)
    if paths:
        took = clock(time.perf_counter() - began)
        display.say(f"{counted(len(paths), noun)} in {took} ({safe(model, 60)}): {places(paths)}")
    many.finish()


def _announce(path: "Path | None", data: bytes, facts: "dict[str, object]", *, as_json: bool) -> None:
    """Say on standard output what was written; or write it there."""
    from dallecli.cli.display import emit, emit_json, emit_line

    if path is None:
        emit(data)
    elif as_json:
        emit_json({"path": str(path), **facts})
    else:
        emit_line(str(path))


def _stem(source: "Source") -> str:
    """The name of a file for what is made of an input, without suffix."""
    from dallecli.pictures.names import slug

    return slug(PurePath(safe(source.name)).stem)

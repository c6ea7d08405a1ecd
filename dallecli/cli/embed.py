"""`dalle embed`: what CLIP sees or reads, as a small file that stands wherever a picture does."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import ARITHMETIC, PICTURES
from dallecli.safe import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dallecli.cli.destination import Destination
    from dallecli.embedding_file import Embedded
    from dallecli.source import Source

ROOM = 2**16
"""Bytes that an embedding takes, generously; with its noise it may take more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """What is asked of embeddings."""

    minus: Annotated[
        list[str] | None,
        typer.Option("--minus", metavar="IMAGE|TEXT", help="Subtract this; repeatable.", rich_help_panel=ARITHMETIC),
    ] = None
    plus: Annotated[
        list[str] | None,
        typer.Option("--plus", metavar="IMAGE|TEXT", help="Add this; repeatable.", rich_help_panel=ARITHMETIC),
    ] = None
    imagine: Annotated[
        bool,
        typer.Option(
            "--imagine",
            help="Let the prior turn sentences into image embeddings, which can be painted.",
            rich_help_panel=PICTURES,
        ),
    ] = False
    invert: Annotated[
        bool,
        typer.Option(
            "--invert",
            help="Also keep the noise from which the picture can be painted again.",
            rich_help_panel=PICTURES,
        ),
    ] = False
    picture: options.PictureOptions
    model: options.ModelOptions
    effort: options.EffortOptions
    prior: options.PriorDials
    inversion: options.InversionDials


@folded
def embed(
    things: options.Things,
    asked: EmbedOptions,
    memory: options.MemoryOptions,
    server: options.ServerOptions,
    output: options.FileOptions,
    reporting: options.Reporting,
) -> None:
    """Write what CLIP sees or reads to small files.

    One file for each picture or sentence. Every command that takes a picture takes such a file, too, and -o - and - put
    them into pipes. --minus and --plus do arithmetic with meanings: all are brought to one length first, and the result
    is as long as what it started from.

    \b
    Examples:
      dalle embed cat.jpg -o cat.safetensors
      dalle embed cat.jpg --minus "a cat" --plus "a dog" -o - | dalle vary - -n 4
      dalle embed "a castle" --imagine -o - | dalle interpolate cat.jpg - --at 0.5
      dalle embed *.jpg --out embeddings
    """
    from dallecli.arguments import check_one_stdin, read_batches, read_files_or_words
    from dallecli.cli.destination import choose_destination, probe_destination
    from dallecli.cli.display import Display, clock
    from dallecli.cli.many import Many
    from dallecli.cli.painting import counted, places
    from dallecli.cli.run import Part
    from dallecli.source import EMBEDDING_SUFFIX
    from dallecli.tasks.builder import build_embed
    from dallecli.unknown import Asking, unknown_notices

    check_one_stdin(things, asked.minus, asked.plus)
    taken = read_files_or_words(asked.minus if asked.minus is not None else [])
    added = read_files_or_words(asked.plus if asked.plus is not None else [])
    destination = choose_destination(
        output, results=len(things), noun="inputs", as_json=reporting.json, redirected=f"x{EMBEDDING_SUFFIX}"
    )
    display, engine = Display(quiet=reporting.quiet), server.engine(memory)
    probe_destination(destination, ROOM * len(things), display)
    paths: list[Path | None] = []
    began = time.perf_counter()
    many = Many(len(things), display, as_json=reporting.json)

    def embedded(batch: "Sequence[Source]") -> "list[Embedded]":
        request = build_embed({"inputs": batch, "minus": taken, "plus": added}, options.values_of(asked))
        with display.running(request.model, [Part(pictures=len(request.sources), noun="input")]):
            return engine.embed(request, display.progress)

    unknown: list[Asking] = []
    for batch in read_batches(things, passing_over=many.passing_over):
        done = many.together(embedded, batch, lambda source: source.name)
        unknown += [Asking(model=one.model, unknown=one.unknown) for _, one in done]
        paths += [_write(one, destination, as_json=reporting.json) for _, one in done]
    for notice in unknown_notices(unknown):
        display.warn(safe(notice, 400))
    if paths:
        took = clock(time.perf_counter() - began)
        display.say(f"{counted(len(paths), 'embedding')} in {took} ({safe(asked.model.model, 60)}): {places(paths)}")
    many.finish()


def _write(embedded: "Embedded", destination: "Destination", *, as_json: bool) -> "Path | None":
    from dallecli.cli.destination import put
    from dallecli.cli.display import emit, emit_json, emit_line
    from dallecli.cli.results import note
    from dallecli.pictures.names import slug
    from dallecli.source import EMBEDDING_SUFFIX

    data = embedded.encode()
    path = put(destination, f"{slug(_stem(embedded.name))}{EMBEDDING_SUFFIX}", data)
    note(path)
    if path is None:
        emit(data)
    elif as_json:
        emit_json({"path": str(path), **embedded.facts()})
    else:
        emit_line(str(path))
    return path


def _stem(name: str) -> str:
    """A file's name without the suffix of a picture; sentences may hold dots that are none."""
    from dallecli.source import EMBEDDING_SUFFIX, PICTURE_SUFFIXES

    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in (*PICTURE_SUFFIXES, EMBEDDING_SUFFIX) else name

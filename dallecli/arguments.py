"""Arguments that name pictures, embeddings or sentences, and options that are lists, as the data of requests."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from dallecli.errors import BadInput, BadSetting
from dallecli.source import STDIN, Source, read_source, read_source_or_words
from dallecli.tasks.mask import read_boxes

BATCH_BYTES: Final = 256 * 2**20
"""How many bytes of pictures are kept in memory at once, where there is no need for all."""


def needed(arguments: Sequence[str] | None, name: str) -> Sequence[str]:
    """Arguments that may be left out only beside --prompts. Raises BadInput."""
    if not arguments:
        raise BadInput(f"missing argument '{name}...'", hint="name a file, or paint many with --prompts")
    return arguments


def read_files(arguments: Sequence[str]) -> list[Source]:
    """Each argument is a picture or an embedding; "-" is standard input. Raises BadInput and BadPicture."""
    return _read(arguments, read_source)


def read_files_or_words(arguments: Sequence[str]) -> list[Source]:
    """Each argument is a file if there is one of this name, else a sentence. Raises BadInput and BadPicture."""
    return _read(arguments, read_source_or_words)


def read_ends(arguments: Sequence[str]) -> tuple[Source, ...]:
    """The ends of a way. A number is none, but a position that went astray. Raises BadInput and BadPicture."""
    ends = read_files_or_words(arguments)
    for end in ends:
        if end.kind == "text" and re.fullmatch(r"[-+]?[\d.]+", end.name.strip()):
            hint = "several places on the way are --at 0.3 --at 0.5"
            raise BadInput(f"{end.name} is neither a file nor a sentence", hint=hint)
    return tuple(ends)


def read_batches(
    arguments: Sequence[str],
    most: int = BATCH_BYTES,
    passing_over: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Iterator[list[Source]]:
    """As `read_files_or_words`, but not more bytes at once than a whole album of photos has.

    Inside of `passing_over`, which is called with its name, each is read: it may keep the error of one from the others.

    Raises BadInput and BadPicture.
    """
    check_one_stdin(arguments)
    batch: list[Source] = []
    size = 0
    for argument in arguments:
        source: Source | None = None
        with passing_over(argument):
            source = read_source_or_words(argument)
        if source is None:
            continue
        batch.append(source)
        size += len(source.data) if source.data is not None else 0
        if size >= most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def read_masks(arguments: Sequence[str]) -> list[Source | str]:
    """Each argument is a box, which stays as it is, or a picture. Raises BadInput, BadPicture and BadMask."""
    boxes, files = read_boxes(arguments)
    return [*(",".join(map(str, box)) for box in boxes), *read_files([file for file in files if isinstance(file, str)])]


def read_weights(text: str | None) -> tuple[float, ...] | None:
    """What --weights means: numbers with commas. Raises BadSetting."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadSetting(f"--weights {text!r} are not numbers", hint="one for each end, as --weights 2,1,1") from error


def check_one_stdin(*arguments: Sequence[str] | None) -> None:
    """Standard input can be read once. Raises BadInput."""
    if sum(list(group).count(STDIN) for group in arguments if group is not None) > 1:
        raise BadInput("standard input can be one input, not two")


def _read(arguments: Sequence[str], read: Callable[[str], Source]) -> list[Source]:
    check_one_stdin(arguments)
    return [read(argument) for argument in arguments]

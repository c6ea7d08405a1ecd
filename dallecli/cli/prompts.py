"""Prompts as arguments, or from standard input."""

import io
import sys
from collections.abc import Sequence

from dallecli.batch.recognition import is_object, recognise
from dallecli.errors import PromptError
from dallecli.limits import PROMPT_BYTES
from dallecli.source import file_kind

STDIN = "-"


def read_prompts(arguments: Sequence[str]) -> list[str]:
    """The prompts that were given, unchecked: each argument is one, and "-" stands for all of standard input.

    Without arguments standard input is the prompt, unless it is a terminal: nobody is left waiting.
    Raises: PromptError if there is none, or what is on standard input is not text.
    """
    if arguments:
        if arguments.count(STDIN) > 1:
            raise PromptError("standard input can be one prompt, not two")
        return [_from_stdin() if argument == STDIN else argument for argument in arguments]
    if sys.stdin is None or sys.stdin.isatty():
        raise PromptError("no prompt was given", hint='say what to paint: dalle generate "a red fox in the snow"')
    return [_from_stdin()]


def _from_stdin() -> str:
    if sys.stdin is None:
        raise PromptError("standard input is closed")
    # One byte more than allowed, plus what is stripped: enough to tell that it is too long without reading all of it.
    raw = sys.stdin.buffer.read(PROMPT_BYTES + len(b"\xef\xbb\xbf\r\n") + 1)
    found = recognise(io.BytesIO(raw), "txt", None)
    named = file_kind(raw)
    hint = "--init - paints over a picture, dalle vary - paints others like it" if named == "a picture" else None
    if found is not None:
        raise PromptError(f"standard input is {found.what}", hint=found.hint if found.hint is not None else hint)
    if named is not None:
        raise PromptError(f"standard input is {named}, and a prompt is expected", hint=hint)
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if is_object(raw.partition(b"\n")[0]):
        raise PromptError("standard input is JSON", hint="… | dalle generate --prompts -")
    for ending in (b"\r\n", b"\n"):
        if raw.endswith(ending):
            raw = raw.removesuffix(ending)
            break
    if len(raw) > PROMPT_BYTES:
        raise PromptError(f"standard input has more than {PROMPT_BYTES} bytes", hint="is it a file given by mistake?")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"standard input is not valid UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise PromptError(what, hint="convert it, for example with iconv") from error

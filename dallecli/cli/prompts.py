"""Where prompts come from: arguments, standard input, or a prompt file."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from dallecli.errors import BadSetting, PromptError
from dallecli.tasks.task import PROMPT_BYTES

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the lines of a prompt file are painted: the options that are about the batch and not about a picture.

    Without `prompts` all of them are left alone. Raises BadSetting for one that then means nothing.
    """

    prompts: str | None
    wildcards: Path | None
    matrix: bool
    keep_going: bool
    retry_failed: bool
    share: bool
    shard: str | None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if self.prompts is None and value is not None and value is not False:
                option = f"--{field.name.replace('_', '-')}"
                raise BadSetting(f"{option} is about a prompt file", hint="name it: --prompts FILE")


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
    raw = raw.removeprefix(b"\xef\xbb\xbf")
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

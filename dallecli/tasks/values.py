"""Values by name, from a prompt line, a command line or an HTTP body, read by their types.

A value is of a JSON type, or the text of a table's cell, or a file that was read already.
"""

import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadInput, BadSetting, BadSize
from dallecli.size import HOW, Proportions, Size, read_size
from dallecli.source import STDIN, Source, read_source, read_source_or_words
from dallecli.tasks.stages import RESPACINGS, Dials, Steps
from dallecli.tasks.synonyms import meant

DTYPE_SYNONYMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("fp32", "float32", "float", "full", "single"), "fp32"),
    **dict.fromkeys(("bf16", "bfloat16"), "bf16"),
    **dict.fromkeys(("fp16", "float16", "half"), "fp16"),
}
"""What number types are called elsewhere, and here."""

NUMBER: Final = re.compile(r"\s*[-+]?[0-9]{1,30}\s*")
"""A whole number as text."""


@dataclass(frozen=True, slots=True)
class Usual:
    """A value that nobody asked for this time: it is what somebody usually wants, where a model can do that."""

    value: object


@dataclass(slots=True, kw_only=True)
class Values:
    """Reads values by name and type, and raises an error for those that are wrong. A number may be text."""

    own: Mapping[str, object]
    """The values; all of them must be read."""
    defaults: Mapping[str, object]
    """Used where `own` lacks a value; they need not all be read."""
    pipes: bool = False
    """Whether a file may be standard input or a pipe. A prompt line is read twice, to be checked and to be painted, and
    a pipe only once."""
    paths: bool = True
    """Whether text may name a file. From another machine it may not: files come as sources."""
    known: set[str] = field(default_factory=set)
    """The names that were read."""
    usual: set[str] = field(default_factory=set)
    """The names that were read and have a `Usual` value."""

    def raw(self, name: str) -> object:
        """The value; None if there is none."""
        self.known.add(name)
        found = self.own.get(name)
        if found is None:
            found = self.defaults.get(name)
            if found is None:  # as most are, and a line of a batch has many
                return None
        if not isinstance(found, Usual):
            return found
        self.usual.add(name)
        return found.value

    def text(self, name: str) -> str | None:
        value = self.raw(name)
        if value is None or isinstance(value, str):
            return value
        raise _wrong(name, value, "text")

    def needed(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise self._missing(name)
        return value

    def whole(self, name: str) -> int | None:
        value = self.raw(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, str) and NUMBER.fullmatch(value):
            return int(value)
        raise _wrong(name, value, "a whole number")

    def number(self, name: str) -> float | None:
        value = self.raw(name)
        return None if value is None else _number(name, value)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """A list, or text with commas, or a single number."""
        value = self.raw(name)
        if value is None:
            return None
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        return tuple(_number(name, part) for part in parts)

    def flag(self, name: str) -> bool:
        value = self.raw(name)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if value is None or isinstance(value, bool):
            return bool(value)
        raise _wrong(name, value, "true or false")

    def one_of(self, name: str, known: Sequence[str]) -> str:
        """One of the known words; the first by default."""
        value = self.text(name)
        if value is None or value in known:
            return value if value is not None else known[0]
        raise BadSetting(f"{name!r} is {value!r}", hint=f"one of {', '.join(known)}")

    # Files

    def file(self, name: str) -> Source | None:
        """The content of the file of this name; or a file that was read already: standard input is read only once."""
        value = self.raw(name)
        if isinstance(value, Source):
            return value
        path = self.text(name)
        return self._file(path) if path is not None else None

    def needed_file(self, name: str) -> Source:
        value = self.file(name)
        if value is None:
            raise self._missing(name)
        return value

    def files(self, name: str) -> tuple[Source | str, ...]:
        """A list of texts, or of files that were read already; or a single one."""
        value = self.raw(name)
        if value is None:
            return ()
        parts = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(part, str | Source) for part in parts):
            raise _wrong(name, value, "text, or a list of texts")
        return tuple(parts)

    def read(self, parts: Iterable[Source | str]) -> tuple[Source, ...]:
        """The content of files by their names."""
        return tuple(part if isinstance(part, Source) else self._file(part) for part in parts)

    def files_or_words(self, name: str) -> tuple[Source, ...]:
        """Each is a file if a file of that name exists, else words."""
        found = []
        for part in self.files(name):
            if isinstance(part, str):
                self._check_path(part)
                part = read_source_or_words(part)
            found.append(part)
        return tuple(found)

    # Dials

    def steps(self, name: str) -> Steps | None:
        """A whole number, or the name of published steps."""
        value = self.raw(name)
        if isinstance(value, str) and value.strip().lower() in RESPACINGS:
            return value.strip().lower()
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            raise _wrong(name, value, f"a whole number, or one of {', '.join(RESPACINGS)}")
        return self.whole(name)

    def size(self, name: str) -> Size | Proportions | int | None:
        """A size as it is written, or the side of a square; of Python's it may be one already."""
        value = self.raw(name)
        if isinstance(value, Size | Proportions):
            return value
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            try:
                return read_size(value)
            except ValueError as error:
                raise BadSize(str(error), hint=HOW) from error
        return self.whole(name)

    def common(self, *, sampler: bool = True) -> dict[str, Any]:
        """What every request has; without `sampler`, that of decoder and upsamplers cannot be chosen."""
        for name in ("command", "name"):
            self.raw(name)
        model, seed, count = self.needed("model"), self.whole("seed"), self.whole("n")
        return {
            "model": model,
            "seed": seed,
            "count": count if count is not None else 1,
            "size": self.size("size"),
            "effort": self.text("effort"),
            "strict": self.flag("strict"),
            "device": self.text("device"),
            "dtype": dtype_of(self.text("dtype")),
            "upsampler": Dials(
                sampler=self.text("upsampler_sampler") if sampler else None,
                steps=self.steps("upsampler_steps"),
                guidance=self.number("upsampler_guidance"),
                guidance_start=self.number("upsampler_guidance_start"),
                guidance_stop=self.number("upsampler_guidance_stop"),
                reuse=self.whole("upsampler_reuse"),
            ),
            "decoder": Dials(
                sampler=self.text("sampler") if sampler else None,
                steps=self.steps("steps"),
                guidance=self.number("guidance"),
                guidance_start=self.number("guidance_start"),
                guidance_stop=self.number("guidance_stop"),
                reuse=self.whole("reuse"),
                temperature=self.number("temperature"),
                top_k=self.whole("top_k"),
                top_p=self.number("top_p"),
            ),
        }

    def prior(self) -> dict[str, Any]:
        """What requests have in which words may become an image embedding."""
        return {
            "prior_kind": self.text("prior"),
            "prior": Dials(
                steps=self.steps("prior_steps"),
                guidance=self.number("prior_guidance"),
                temperature=self.number("prior_temperature"),
                top_k=self.whole("prior_top_k"),
            ),
            "prior_candidates": self.whole("prior_candidates"),
        }

    def inverting(self) -> Dials:
        """The dials of an inversion."""
        return Dials(steps=self.whole("inversion_steps"))

    def finish(self, command: str) -> None:
        """Raises BadSetting for values that were not read."""
        for name in self.own:
            if name not in self.known:
                close = meant(name, self.known)
                hint = f"did you mean {close!r}?" if close is not None else f"it knows {', '.join(sorted(self.known))}"
                raise BadSetting(f"dalle {command} does not know {name!r}", hint=hint)

    def _missing(self, name: str) -> BadSetting:
        close = get_close_matches(name, self.own, n=1)
        return BadSetting(f"{name!r} is missing", hint=f"is it {close[0]!r}?" if close else None)

    def _file(self, path: str) -> Source:
        self._check_path(path)
        return read_source(path)

    def _check_path(self, path: str) -> None:
        """Raises BadInput for any path where none may be, and for what can be read only once, if it is read twice."""
        if not self.paths:
            raise BadInput("no file is read by its path here", where=path, hint="send its content")
        if self.pipes:
            return
        with suppress(OSError, ValueError):
            if path == STDIN or stat.S_ISFIFO(Path(path).stat().st_mode):
                raise BadInput("a line cannot name standard input or a pipe", where=path, hint="name a file")


def dtype_of(name: str | None) -> str | None:
    """The number type that is meant: float32, bfloat16, float16 and half are other names of fp32, bf16 and fp16."""
    return DTYPE_SYNONYMS.get(name.lower().removeprefix("torch."), name) if name is not None else None


def _number(name: str, value: object) -> float:
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    raise _wrong(name, value, "a number")


def _wrong(name: str, value: object, wanted: str) -> BadSetting:
    kind = {bool: "true or false", dict: "an object", list: "a list"}.get(type(value))
    return BadSetting(f"{name!r} is {kind if kind is not None else repr(value)}, and should be {wanted}")

"""From values by name, those of a line or of a command line, to the requests that they make.

A value is what JSON has, or the text of a table's cell. What a line does not say is as on the command line; every
command knows its own values, and a name that it does not know is an error.
"""

import hashlib
import json
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from dallecli.arguments import read_edges, read_mask
from dallecli.batch.wildcards import Template, Wildcards, escaped
from dallecli.errors import BadInput, BadSetting, NoSuchDevice
from dallecli.request import (
    COUNT_LIMIT,
    MASK_MODES,
    NOISES,
    Edit,
    Generate,
    Inpaint,
    Interpolate,
    MaskMode,
    Noise,
    Request,
    Stage,
    Vary,
)
from dallecli.source import STDIN, Source, read_source, read_source_or_words

if TYPE_CHECKING:
    # It imports Pillow, for which nobody should wait who mistyped an option.
    from dallecli.batch.prompt_file import Line

FRAMES: Final = 7
"""The pictures of a way if nothing is said."""

NAME_BYTES: Final = 200
"""The longest part of a name between slashes: file systems take 255, and a number and a suffix are added."""

NAME_FOLDERS: Final = 8

# What Windows keeps for devices, with any suffix.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request of a line. `part` tells the requests of one line apart, from 0.

    `name` is what its files should be called, without a suffix; None leaves that to us. `values` make it again, alone.
    """

    line: int
    part: int
    request: Request
    name: str | None
    values: Mapping[str, object]


class Values:
    """Takes values out of a line by name and type, and says what is wrong with them. Text may be a number in a table.

    `defaults` stand in for what is not there; they may hold more than anybody asks for.
    """

    def __init__(self, own: Mapping[str, object], defaults: Mapping[str, object]) -> None:
        self.own = own
        self.defaults = defaults
        self.known: set[str] = set()

    def raw(self, name: str) -> object:
        """The value, None if there is none."""
        self.known.add(name)
        found = self.own.get(name)
        return found if found is not None else self.defaults.get(name)

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

    def _missing(self, name: str) -> BadSetting:
        close = get_close_matches(name, self.own, n=1)
        return BadSetting(f"{name!r} is missing", hint=f"is it {close[0]!r}?" if close else None)

    def file(self, name: str) -> Source | None:
        """What is in the file of this name; or a file that was read already, as standard input can be only once."""
        value = self.raw(name)
        if isinstance(value, Source):
            return value
        path = self.text(name)
        return _file(path) if path is not None else None

    def needed_file(self, name: str) -> Source:
        value = self.file(name)
        if value is None:
            raise self._missing(name)
        return value

    def whole(self, name: str) -> int | None:
        value = self.raw(name)
        if isinstance(value, str) and re.fullmatch(r"\s*[-+]?[0-9]{1,30}\s*", value):
            return int(value)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise _wrong(name, value, "a whole number")

    def number(self, name: str) -> float | None:
        value = self.raw(name)
        return None if value is None else _number(name, value)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """A list, or text with commas, or one number alone."""
        value = self.raw(name)
        if value is None:
            return None
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
        return tuple(_number(name, part) for part in parts)

    def flag(self, name: str) -> bool:
        value = self.raw(name)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if value is None or isinstance(value, bool):
            return bool(value)
        raise _wrong(name, value, "true or false")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, or one alone."""
        value = self.raw(name)
        if value is None:
            return ()
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str) for part in parts):
            raise _wrong(name, value, "text, or a list of texts")
        return tuple(parts)

    def one_of(self, name: str, known: Sequence[str]) -> str:
        """One of some words, the first if nothing is said."""
        value = self.text(name)
        if value is None or value in known:
            return value if value is not None else known[0]
        raise BadSetting(f"{name!r} is {value!r}", hint=f"one of {', '.join(known)}")

    def stage(self, sampler: str | None = None, steps: str | None = None, guidance: str | None = None) -> Stage:
        """A stage's dials, from the values of these names."""
        return Stage(
            sampler=self.text(sampler) if sampler is not None else None,
            steps=self.whole(steps) if steps is not None else None,
            guidance=self.number(guidance) if guidance is not None else None,
        )

    def finish(self, command: str) -> None:
        """Raises BadSetting for what nobody has taken."""
        for name in self.own:
            if name not in self.known:
                close = get_close_matches(name.replace("-", "_"), self.known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"it knows {', '.join(sorted(self.known))}"
                raise BadSetting(f"dalle {command} does not know {name!r}", hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Makes requests of lines. `command` is for lines that name none, `defaults` are the options of the command line.

    With `matrix`, a sentence with choices stands for all that it can be, else each picture has its own choice.
    """

    command: str
    defaults: Mapping[str, object]
    wildcards: Wildcards
    matrix: bool = False

    def jobs(self, line: "Line") -> Iterator[Job]:
        """The requests of a line, in order.

        A line without a seed gets one from its own words, so that a file always makes the same pictures. Raises
        RequestError.
        """
        own = dict(line.values)
        values = Values(own, self.defaults)
        command = values.one_of("command", (self.command, *(name for name in COMMANDS if name != self.command)))
        name = checked_name(values.text("name"))
        seed, count, sentence = values.whole("seed"), values.whole("n"), values.text("prompt")
        template = self.wildcards.template(sentence) if sentence is not None else None
        wanted = self._wanted(
            template,
            seed if seed is not None else _own_seed(own),
            count if count is not None else 1,
            keep_together=values.whole("best_of") is not None,
        )
        several = template is not None and template.open
        for part, (word, first, pictures) in enumerate(wanted):
            asked = own | {"command": command, "seed": first, "n": pictures}
            if word is not None:
                asked["prompt"] = escaped(word)
            own_name = f"{name}-{part + 1}" if name is not None and several else name
            if own_name is not None:
                asked["name"] = own_name
            chosen = {"command": command, "seed": first, "n": pictures, "prompt": word}
            line_says = {name: chosen.get(name, value) for name, value in own.items()}
            try:
                request = make_request(command, line_says, {**self.defaults, **chosen})
            except NoSuchDevice as error:
                raise BadSetting(error.what, error.where, error.hint) from error  # of a line it is a wrong value
            yield Job(line=line.number, part=part, request=request, name=own_name, values=asked)

    def _wanted(
        self, template: Template | None, seed: int, count: int, *, keep_together: bool
    ) -> Iterator[tuple[str | None, int, int]]:
        """The sentence, the first seed and the number of pictures of each request."""
        if not 1 <= count <= COUNT_LIMIT:
            raise BadSetting(f"the number of pictures is {count}", hint=f"it goes from 1 to {COUNT_LIMIT}")
        if template is None:
            yield None, seed, count
        elif template.open and self.matrix:
            yield from ((sentence, seed, count) for sentence in template.every())
        elif template.open and not keep_together:
            yield from ((template.chosen(seed + k), seed + k, 1) for k in range(count))
        else:
            yield template.chosen(seed), seed, count


def checked_name(name: str | None) -> str | None:
    """A name for files that stays inside of the output folder, on every system. Raises BadSetting."""
    if name is None:
        return None
    parts = name.split("/")
    reasons = {
        "is empty": not name.strip(),
        "leads out of the folder": any(part in ("", ".", "..") for part in parts) or "\\" in name or ":" in name,
        "has characters that no name should have": any(
            unicodedata.category(char) in ("Zl", "Zp") or unicodedata.category(char)[0] == "C" or char in '<>"|?*'
            for char in name
        ),
        "is kept for devices on some systems": any(_RESERVED.fullmatch(part) for part in parts),
        "begins with a dot, or ends with one or a blank": any(
            part.startswith(".") or part.endswith((".", " ")) for part in parts
        ),
        f"is longer than {NAME_BYTES} bytes": any(len(part.encode("utf-8", "replace")) > NAME_BYTES for part in parts),
        f"has more than {NAME_FOLDERS} folders": len(parts) > NAME_FOLDERS + 1,
    }
    for reason, true in reasons.items():
        if true:
            raise BadSetting(f"the name {name!r} {reason}", hint="letters, digits, hyphens, and / for folders")
    return name


def make_request(
    command: str, own: Mapping[str, object], defaults: Mapping[str, object] = MappingProxyType({})
) -> Request:
    """The request that a command makes of values with the names and types of a line's; a file may be read already.

    `own` must all be known to the command, `defaults` stand in for what is not there. Raises RequestError.
    """
    values = Values(own, defaults)
    request = COMMANDS[command](values, _common(values))
    values.finish(command)
    return request


def _common(values: Values) -> dict[str, Any]:
    """What every request has besides the stages, which differ."""
    for name in ("command", "name"):
        values.raw(name)
    return {
        "model": values.needed("model"),
        "seed": values.whole("seed"),
        "count": values.whole("n"),
        "size": values.whole("size"),
        "effort": values.text("effort"),
        "strict": values.flag("strict"),
        "device": values.text("device"),
        "dtype": values.text("dtype"),
        "upsampler": values.stage(steps="upsampler_steps"),
    }


def _prior(values: Values) -> dict[str, Any]:
    return {
        "prior": values.stage(steps="prior_steps", guidance="prior_guidance"),
        "prior_candidates": values.whole("prior_candidates"),
    }


_Common = Mapping[str, Any]


def _generate(values: Values, common: _Common) -> Request:
    return Generate(
        prompt=values.needed("prompt"),
        best_of=values.whole("best_of"),
        negative=values.text("negative"),
        init=values.file("init"),
        strength=values.number("strength"),
        decoder=values.stage("sampler", "steps", "guidance"),
        **_prior(values),
        **common,
    )


def _vary(values: Values, common: _Common) -> Request:
    return Vary(
        image=values.needed_file("image"),
        prompt=values.text("prompt"),
        fidelity=values.number("fidelity"),
        decoder=values.stage("sampler", "steps", "guidance"),
        inverting=values.stage(steps="inversion_steps"),
        **common,
    )


def _interpolate(values: Values, common: _Common) -> Request:
    frames, at, weights = values.whole("frames"), values.numbers("at"), values.numbers("weights")
    if frames is None and at is None and weights is None:
        frames = FRAMES
    return Interpolate(
        ends=tuple(_file_or_words(end) for end in values.texts("ends")),
        frames=frames,
        positions=at,
        weights=weights,
        noise=cast(Noise, values.one_of("noise", NOISES)),
        decoder=values.stage("sampler", "steps", "guidance"),
        inverting=values.stage(steps="inversion_steps"),
        **_prior(values),
        **common,
    )


def _inpaint(values: Values, common: _Common) -> Request:
    expand = values.raw("expand")
    edges = read_edges(str(expand) if expand is not None else None)
    masks = values.texts("mask")
    for mask in masks:
        _check_regular(mask)
    mode = cast(MaskMode, values.one_of("mask_mode", MASK_MODES))
    return Inpaint(
        image=values.needed_file("image"),
        mask=read_mask(masks, mode, invert=values.flag("invert_mask"), expand=edges),
        prompt=values.text("prompt"),
        resample=values.whole("resample"),
        negative=values.text("negative"),
        expand=edges,
        decoder=values.stage("sampler", "steps", "guidance"),
        **_prior(values),
        **common,
    )


def _edit(values: Values, common: _Common) -> Request:
    return Edit(
        image=values.needed_file("image"),
        before=values.needed("from"),
        after=values.needed("to"),
        strength=values.number("strength"),
        sweep=values.whole("sweep"),
        decoder=values.stage(steps="steps", guidance="guidance"),
        inverting=values.stage(steps="inversion_steps"),
        **common,
    )


COMMANDS: Final[Mapping[str, Callable[[Values, _Common], Request]]] = {
    "generate": _generate,
    "vary": _vary,
    "interpolate": _interpolate,
    "inpaint": _inpaint,
    "edit": _edit,
}
"""What makes the request of each command."""


def _own_seed(own: Mapping[str, object]) -> int:
    """A seed below 2^32 from what a line says; the same line always has the same."""
    text = json.dumps({name: value for name, value in own.items() if name not in ("name", "n")}, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _file(path: str) -> Source:
    _check_regular(path)
    return read_source(path)


def _file_or_words(text: str) -> Source:
    _check_regular(text)
    return read_source_or_words(text)


def _check_regular(path: str) -> None:
    """Refuse what can be read only once: a line is read to be checked, and again to be painted. Raises BadInput."""
    with suppress(OSError, ValueError):
        if path == STDIN or stat.S_ISFIFO(Path(path).stat().st_mode):
            raise BadInput("a line cannot name standard input or a pipe", where=path, hint="name a file")


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

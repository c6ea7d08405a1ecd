"""From the lines of a prompt file to the requests that they make.

What a line does not say is as on the command line; every task knows its own values, and a name that it does not know is
an error.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dallecli.batch.wildcards import Template, Wildcards, escaped, has_choices
from dallecli.errors import BadSetting, NoSuchDevice
from dallecli.limits import COUNT_LIMIT
from dallecli.safe import is_hidden
from dallecli.source import check_no_file
from dallecli.tasks.builder import build_request
from dallecli.tasks.table import TASKS
from dallecli.tasks.task import Request
from dallecli.tasks.values import Values

if TYPE_CHECKING:
    # It imports Pillow, for which nobody should wait who mistyped an option.
    from dallecli.batch.prompt_file import Line

NAME_BYTES: Final = 200
"""The longest part of a name between slashes: file systems take 255, and a number and a suffix are added."""

NAME_FOLDERS: Final = 8

WORDY: Final = ("negative", "from", "to", "ends")
"""The values of a line, besides its prompt, that are sentences."""

# What Windows keeps for devices, with any suffix.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request of a line. `part` tells the requests of one line apart, from 0.

    `name` is what its files should be called, without a suffix; None leaves that to us. `values` make it again, alone.
    `doubts` are what the author of the line should be told: what it says may not be what was meant.
    """

    line: int
    part: int
    request: Request
    name: str | None
    values: Mapping[str, object]
    doubts: tuple[str, ...] = ()


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
        values = Values(own=own, defaults=self.defaults)
        command = values.one_of("command", (self.command, *(name for name in TASKS if name != self.command)))
        name = checked_name(values.text("name"))
        seed, count, sentence = values.whole("seed"), values.whole("n"), values.text("prompt")
        if sentence is not None:
            check_no_file(sentence)
        template = self.wildcards.template(sentence) if sentence is not None else None
        wanted = self._wanted(
            template,
            seed if seed is not None else _own_seed(own),
            count if count is not None else 1,
            keep_together=values.whole("best_of") is not None,
        )
        doubts = (*(template.doubts if template is not None else ()), *_choices_elsewhere(own))
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
                request = build_request(command, line_says, {**self.defaults, **chosen})
            except NoSuchDevice as error:
                raise BadSetting(error.what, error.where, error.hint) from error  # of a line it is a wrong value
            told = doubts if part == 0 else ()
            yield Job(line=line.number, part=part, request=request, name=own_name, values=asked, doubts=told)

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
        "has characters that no name should have": any(is_hidden(char) or char in '<>"|?*' for char in name),
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


def _choices_elsewhere(own: Mapping[str, object]) -> Iterator[str]:
    """What looks like a choice where there are none: only a prompt has them."""
    for name, value in own.items():
        words = value if isinstance(value, list) else [value]
        if name in WORDY and any(isinstance(word, str) and has_choices(word) for word in words):
            yield f"choices are for prompts; {name!r} is taken as it stands"


def _own_seed(own: Mapping[str, object]) -> int:
    """A seed below 2^32 from what a line says; the same line always has the same."""
    text = json.dumps({name: value for name, value in own.items() if name not in ("name", "n")}, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

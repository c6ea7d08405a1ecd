"""What a line of the shell means: a prompt with options, or a command with arguments. Nothing is run here."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from dallecli.cli.help import OPEN_VALUES
from dallecli.errors import BadInput, RequestError

LAST: Final = "last"
"""What was painted last; `last.2` is the second file of it."""

PROMPTS: Final = "generate"
"""The command that a prompt is for."""

_TOKEN: Final = re.compile(
    r"""(?P<option>--[\w-]+=)?(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)')(?=\s|$)|(?P<bare>\S+)"""
)
_OPTION: Final = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)
_NUMBERED: Final = re.compile(rf"{LAST}(?:\.(\d{{1,4}}))?")

FILES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("vary", "edit", "interpolate", "rank", "embed", "encode", "decode", "show", "grid"), ()),
    **dict.fromkeys(("replay", "open", "probe"), ("--input",)),
    "inpaint": ("--mask",),
    PROMPTS: ("--init", "--continue"),
}
"""The commands in whose arguments `last` is a file (of `generate` they are words), and such options of each."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a line, or several in quotes."""

    text: str
    quoted: bool = False


def tokens(line: str) -> list[Token]:
    """The words of a line. Quotes count where they begin a word and end one: an apostrophe is none."""
    return [_token(found) for found in _TOKEN.finditer(line)]


def _token(found: re.Match[str]) -> Token:
    if found["bare"] is not None:
        return Token(found["bare"])
    inner = found["double"] if found["double"] is not None else found["single"]
    return Token(found["option"] + inner) if found["option"] is not None else Token(inner, quoted=True)


@dataclass(frozen=True, slots=True)
class Parted:
    """The arguments of a command, told apart: options with their values, and everything else."""

    options: list[Token]
    words: list[Token]


def parted(command: Any, given: Sequence[Token]) -> Parted:
    """The options of a command among some words, wherever they stand. What looks like an option is one."""
    values = {name: 0 if param.is_flag else param.nargs for param in command.params for name in _names(param)}
    options: list[Token] = []
    words: list[Token] = []
    rest = list(given)
    while rest:
        token = rest.pop(0)
        if token.text == "--" and not token.quoted:
            words += rest
            break
        if token.quoted or not _OPTION.fullmatch(token.text):
            words.append(token)
            continue
        options.append(token)
        for _ in range(_following(token.text, rest, values)):
            options.append(rest.pop(0))
    return Parted(options, words)


def _names(param: Any) -> tuple[str, ...]:
    return (*param.opts, *param.secondary_opts) if param.param_type_name == "option" else ()


def _following(option: str, rest: Sequence[Token], values: Mapping[str, int]) -> int:
    """How many words after an option belong to it."""
    if option in OPEN_VALUES:
        return int(bool(rest) and rest[0].text in OPEN_VALUES[option])
    return min(len(rest), values.get(option, 0))


def prompt_arguments(line: str, command: Any, given: Sequence[Token], last: Sequence[str]) -> list[str]:
    """The arguments for a prompt: all its words are one sentence, unless each stands in quotes. Raises BadInput."""
    found = parted(command, given)
    options = list(_meant(found.options, FILES[PROMPTS], last, also_words=False))
    if not found.words:
        return [PROMPTS, *options]
    if all(word.quoted for word in found.words):
        return [PROMPTS, *options, "--", *(word.text for word in found.words)]
    words = [word.text for word in found.words]
    return [PROMPTS, *options, "--", line.strip() if words == line.split() else " ".join(words)]


def command_arguments(name: str, given: Sequence[Token], last: Sequence[str]) -> list[str]:
    """The arguments for a command, with files in place of `last`. Raises BadInput."""
    if name not in FILES:
        return [name, *(token.text for token in given)]
    return [name, *_meant(given, FILES[name], last, also_words=True)]


def _meant(given: Sequence[Token], options: Sequence[str], last: Sequence[str], *, also_words: bool) -> Iterator[str]:
    """The words with files in place of `last`, where one can stand."""
    before = Token("")
    for token in given:
        named, equals, value = token.text.partition("=")
        if equals and named in options and _NUMBERED.fullmatch(value):
            yield f"{named}={_one(named_files(value, last))}"
        elif token.quoted or not _NUMBERED.fullmatch(token.text):
            yield token.text
        elif before.text in options:
            yield _one(named_files(token.text, last))
        elif also_words and not before.text.startswith("-"):
            yield from named_files(token.text, last)
        else:
            yield token.text
        before = token if not token.quoted else replace(token, text="")


def _one(files: Sequence[str]) -> str:
    if len(files) > 1:
        raise BadInput(f"{LAST} is {len(files)} files, and this takes one", hint=f"{LAST}.1 to {LAST}.{len(files)}")
    return files[0]


def named_files(text: str, last: Sequence[str]) -> list[str]:
    """The files that `last` or `last.2` stands for. Raises BadInput where there is none."""
    found = _NUMBERED.fullmatch(text)
    assert found is not None
    if not last:
        hint = "a line with a prompt paints one; dalle history lists those of earlier"
        raise BadInput(f"nothing was painted here yet, so there is no {text}", hint=hint.replace("dalle ", ""))
    if found[1] is None:
        return list(last)
    number = int(found[1])
    if not 1 <= number <= len(last):
        hint = "--layout files makes a file of each picture" if len(last) == 1 else f"{LAST}.1 to {LAST}.{len(last)}"
        raise BadInput(f"there is no {text}: {LAST} is {len(last)} file{'s' if len(last) > 1 else ''}", hint=hint)
    return [last[number - 1]]


def quoted(line: str) -> str:
    """How a line is written that is a prompt whatever it begins with."""
    return f'"{line}"' if '"' not in line else f"'{line}'"


def ambiguous(line: str, meant: str) -> RequestError:
    """What is said of a line that is most likely a slip: nothing was painted."""
    return RequestError(
        f"{line!r} is no command here", hint=f"{meant}; to paint it, put it into quotes: {quoted(line)}"
    )

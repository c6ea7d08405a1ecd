"""Sentences with choices: `a {red|blue} car`, or `a car in __colour__`, where colour.txt has one choice a line.

    {red|blue}              one of them
    {3::red|blue}           red three times as often as blue
    {2$$red|blue|green}     two of them, in any order, as "green, red"; {1-3$$…} takes one to three
    {2$$ and $$red|blue}    two of them as "blue and red"
    __colour__              a line of colour.txt; __cars/colour__ of colour.txt in the folder cars
    {2$$__colour__}         two lines of it

The notation is that of the library dynamicprompts. Choices may be nested, and the lines of a list may hold choices and
begin with a weight. A backslash before `{`, `|`, `}` or `_` makes it a plain character. What looks like a choice and is
none stays as it is, and is among the `doubts` of its template.
"""

import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise, permutations, product
from math import factorial, prod
from pathlib import Path
from typing import Final

from dallecli.batch.recognition import recognise
from dallecli.errors import BadSetting, reason
from dallecli.limits import LIST_BYTES, read_file

MOST: Final = 1_000_000
"""The most sentences that one template may stand for."""

DEPTH: Final = 16
"""How deep choices and lists may be nested."""

SEPARATOR: Final = ", "
"""What is between several choices, if nothing else is said."""

# Parts begin with a letter or a digit, so that no name leads out of the folder.
_PART = r"[^\W_](?:[^\s_/\\{}|$:<>\"?*.\x00-\x1f\x7f]|_(?!_))*"
_LIST = re.compile(rf"__({_PART}(?:/{_PART})*)__")
_LIKE_A_LIST = re.compile(r"__(?:[^\s_{}|\\](?:[^\s{}|\\]*?[^\s_{}|\\])??__|(?=\{))")
_WEIGHT = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)::")
_NUMBER = re.compile(r"\s*(?:([0-9]{1,4})(?:(-)([0-9]{1,4})?)?|-([0-9]{1,4}))\$\$(?:([^|{}$]*)\$\$)?")
_LIKE_A_NUMBER = re.compile(r"[^|{}$]{0,40}\$\$")
_LIKE_A_WEIGHT = re.compile(r"[^|{}\s]*::")
_SPECIAL = "{|}_"
_MARKS = re.compile(r"[{}_\\]")  # without one of them there is nothing to choose, and nothing escaped
_SHOWN = 40
_DOUBTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """How many options are taken of a choice, and what is between them."""

    least: int
    most: int
    separator: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several sentences, or `several` of them; each as often as its weight says, all alike if there are none."""

    options: "tuple[Template, ...]"
    weights: tuple[float, ...] | None = None
    several: Several | None = None

    @cached_property
    def count(self) -> int:
        """How many sentences it stands for, with duplicates."""
        if self.several is None:
            return sum(option.count for option in self.options)
        # The number of ways to take k of the options, whatever their order: the elementary symmetric polynomials.
        ways = [1] + [0] * self.several.most
        for option in self.options:
            for k in range(self.several.most, 0, -1):
                ways[k] += ways[k - 1] * option.count
        return sum(factorial(k) * ways[k] for k in range(self.several.least, self.several.most + 1))

    def every(self) -> Iterator[str]:
        """All sentences."""
        if self.several is None:
            for option in self.options:
                yield from option.every()
            return
        for number in range(self.several.least, self.several.most + 1):
            for taken in permutations(self.options, number):
                for sentences in product(*(list(option.every()) for option in taken)):
                    yield self.several.separator.join(sentence.strip() for sentence in sentences)

    def chosen(self, draws: Iterator[int]) -> str:
        """The sentence that random numbers below 2^64 choose."""
        if self.several is None:
            return self._one(draws, range(len(self.options)))[1]
        left = list(range(len(self.options)))
        taken = []
        for _ in range(self.several.least + next(draws) % (self.several.most - self.several.least + 1)):
            k, sentence = self._one(draws, left)
            left.remove(k)
            taken.append(sentence.strip())
        return self.several.separator.join(taken)

    def _one(self, draws: Iterator[int], left: Sequence[int]) -> tuple[int, str]:
        """Which of the options that are left was chosen, and its sentence."""
        draw = next(draws)
        if self.weights is None:
            k = left[draw % len(left)]
        else:
            place = draw / 2**64 * sum(self.weights[k] for k in left)
            k = left[-1]  # if rounding leads beyond the end
            for candidate in left:
                place -= self.weights[candidate]
                if place < 0:
                    k = candidate
                    break
        return k, self.options[k].chosen_by(draws)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A sentence with choices: words and choices in turn. `doubts` are what its author should be told."""

    parts: tuple[str | Choice, ...]
    doubts: tuple[str, ...] = ()

    @cached_property
    def count(self) -> int:
        """How many sentences it stands for, with duplicates."""
        return prod(part.count for part in self.parts if isinstance(part, Choice))

    @property
    def open(self) -> bool:
        """Whether there is anything to choose."""
        return any(isinstance(part, Choice) for part in self.parts)

    def every(self) -> Iterator[str]:
        """All sentences; the last choice changes fastest."""
        pools = [[part] if isinstance(part, str) else list(part.every()) for part in self.parts]
        yield from ("".join(combination) for combination in product(*pools))

    def chosen(self, seed: int) -> str:
        """The sentence for a seed, always the same."""
        return self.chosen_by(_draws(seed))

    def chosen_by(self, draws: Iterator[int]) -> str:
        """The sentence that random numbers below 2^64 choose."""
        return "".join(part if isinstance(part, str) else part.chosen(draws) for part in self.parts)


class Wildcards:
    """Reads templates, with the lists that lie in a folder. A list is read once, whatever happens to its file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines = cache(self._read_lines)
        self._options = cache(self._read_options)
        self._doubts: list[str] = []  # of lists that were just read

    def template(self, sentence: str) -> Template:
        """Raises BadSetting for a list that is not there or cannot be read, and for more than `MOST` sentences."""
        template = self._template(sentence, ())
        if template.count > MOST:
            raise BadSetting(f"these choices make {template.count} sentences", hint=f"at most {MOST} are possible")
        if self._doubts:
            template = Template(parts=template.parts, doubts=(*template.doubts, *dict.fromkeys(self._doubts)))
            self._doubts.clear()
        return template

    def _template(self, sentence: str, within: tuple[str, ...]) -> Template:
        if not _MARKS.search(sentence):
            return Template(parts=(sentence,) if sentence else ())
        reading = _Reading(text=sentence, braces=_braces(sentence), lists=self, within=within)
        template = reading.between(0, len(sentence))
        return Template(parts=template.parts, doubts=tuple(dict.fromkeys(reading.doubts)))

    def options_of(self, name: str, within: tuple[str, ...]) -> tuple[tuple[Template, ...], tuple[float, ...] | None]:
        """The lines of a list and their weights. Raises BadSetting."""
        if name in within or len(within) >= DEPTH:
            raise BadSetting(f"the list {name} contains itself: {' > '.join((*within, name))}")
        return self._options(name, within)

    def _read_options(
        self, name: str, within: tuple[str, ...]
    ) -> tuple[tuple[Template, ...], tuple[float, ...] | None]:
        weighed = [_weighed(line) for line in self._lines(name)]
        options = [(self._template(line, (*within, name)), weight) for line, weight in weighed if weight != 0]
        if not options:
            raise BadSetting(f"the list of __{name}__ is empty", where=str(self.folder / f"{name}.txt"))
        doubts = [f"in {name}.txt: {doubt}" for option, _ in options for doubt in option.doubts]
        self._doubts += doubts[:_DOUBTS]
        weights = tuple(weight if weight is not None else 1.0 for _, weight in options)
        return tuple(option for option, _ in options), weights if set(weights) != {1.0} else None

    def _read_lines(self, name: str) -> tuple[str, ...]:
        path = self.folder / f"{name}.txt"
        try:
            text = _text_of(self._found(name))
        except (OSError, ValueError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            hint = f"write one choice a line into it; or \\__{name}__ in the sentence, to mean these characters"
            raise BadSetting(f"__{name}__ has no list: {why}", where=str(path), hint=hint) from error
        lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
        return tuple(line for line in lines if line and not line.startswith("#"))

    def _found(self, name: str) -> Path:
        """The file of a list, however its file system writes letters with accents."""
        spellings = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
        paths = [self.folder / f"{spelling}.txt" for spelling in spellings]
        return next((path for path in paths if os.path.lexists(path)), paths[0])


def _text_of(path: Path) -> str:
    """The text of a list. Raises OSError, and ValueError with a reason."""
    data = read_file(path, LIST_BYTES)
    found = recognise(io.BytesIO(data if b"\n" in data else data.replace(b"\r", b"\n")), "txt", str(path))
    if found is not None:
        raise ValueError(f"it is {found.what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error


@dataclass(slots=True, kw_only=True)
class _Braces:
    """Where the bars of a pair of braces are, and where it closes; None if it never does."""

    bars: list[int] = field(default_factory=list)
    end: int | None = None


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One sentence that is being read: its braces by where they open, and the lists that it is in."""

    text: str
    braces: Mapping[int, _Braces]
    lists: Wildcards
    within: tuple[str, ...]
    doubts: list[str] = field(default_factory=list)
    ends: set[int | None] = field(init=False)

    def __post_init__(self) -> None:
        self.ends = {pair.end for pair in self.braces.values()}

    def between(self, start: int, end: int) -> Template:
        """The template of a part of the sentence."""
        text = self.text
        parts: list[str | Choice] = []
        words: list[str] = []  # of letters: a string that grows letter by letter may be copied for each
        k = start
        while k < end:
            if text[k] == "\\" and text[k + 1 : k + 2] and text[k + 1] in _SPECIAL:
                words.append(text[k + 1])
                k += 2
                continue
            choice, after = self._choice(k, end)
            if choice is None:
                words.append(text[k])
                k += 1
            else:
                parts += ["".join(words), choice] if words else [choice]
                words, k = [], after
        return Template(parts=(*parts, "".join(words)) if words else tuple(parts))

    def _choice(self, k: int, end: int) -> tuple[Choice | None, int]:
        """The choice that begins here, if one does, and where it is over."""
        text = self.text
        if text[k] == "{":
            return self._in_braces(k)
        if text[k] == "}" and k not in self.ends:
            self._doubt(k, k + 1, "it closes nothing")
        elif text.startswith("__", k):
            if match := _LIST.match(text, k, end):
                options, weights = self.lists.options_of(match[1], self.within)
                return Choice(options=options, weights=weights), match.end()
            if (match := _LIKE_A_LIST.match(text, k, end)) and text[k - 1 : k] != "_":
                self._doubt(k, max(match.end(), k + 3), "no list is called so")
        return None, k + 1

    def _in_braces(self, start: int) -> tuple[Choice | None, int]:
        braces = self.braces[start]
        if braces.end is None:
            self._doubt(start, len(self.text), "the brace is never closed")
            return None, start + 1
        several, first = self._number(start + 1, braces, braces.end)
        marks = [first - 1, *braces.bars, braces.end]
        if several is not None and not braces.bars:
            options = self._of_a_list(first, braces.end)
        elif braces.bars:
            options = self._weighed_options(marks)
        else:
            options = None
        if options is None:
            self._doubt(start, braces.end + 1, "it has no bar")
            return None, start + 1
        return self._checked(start, braces.end + 1, *options, several), braces.end + 1

    def _number(self, start: int, braces: _Braces, closes: int) -> "tuple[tuple[int, int | None, str] | None, int]":
        """How many options are taken (the most is open for `2-$$`), what is between, and where the options begin."""
        first_end = braces.bars[0] if braces.bars else closes
        match = _NUMBER.match(self.text, start, first_end)
        if match is None:
            if like := _LIKE_A_NUMBER.match(self.text, start, first_end):
                self._doubt(start, like.end(), "this is no number of choices")
            return None, start
        least = int(match[1]) if match[1] is not None else 1
        most = match[3] if match[2] is not None else match[4] if match[4] is not None else match[1]
        separator = match[5] if match[5] is not None else SEPARATOR
        return (least, int(most) if most is not None else None, separator), match.end()

    def _of_a_list(self, start: int, end: int) -> tuple[tuple[Template, ...], tuple[float, ...] | None] | None:
        match = re.fullmatch(rf"\s*{_LIST.pattern}\s*", self.text[start:end])
        return self.lists.options_of(match[1], self.within) if match is not None else None

    def _weighed_options(self, marks: Sequence[int]) -> tuple[tuple[Template, ...], tuple[float, ...] | None]:
        options, weights = [], []
        for a, b in pairwise(marks):
            match = _WEIGHT.match(self.text, a + 1, b)
            weight = float(match[1]) if match is not None else 1.0
            if match is None and (like := _LIKE_A_WEIGHT.match(self.text, a + 1, b)):
                self._doubt(a + 1, like.end(), "this is no weight")
            option = self.between(match.end() if match is not None else a + 1, b)
            if weight > 0:
                options.append(option)
                weights.append(weight)
        return tuple(options), tuple(weights) if set(weights) != {1.0} else None

    def _checked(
        self,
        start: int,
        end: int,
        options: tuple[Template, ...],
        weights: tuple[float, ...] | None,
        several: "tuple[int, int | None, str] | None",
    ) -> Choice:
        """Raises BadSetting for more options than there are."""
        shown = self._shown(start, end)
        if not options:
            raise BadSetting(f"every weight of {shown} is 0")
        if several is None:
            return Choice(options=options, weights=weights)
        least, most, separator = several
        if least > len(options) or (most is not None and most < least):
            raise BadSetting(f"{shown} takes {least} of {len(options)} choices", hint="{2$$a|b|c} takes two of three")
        taken = Several(
            least=least, most=min(len(options), most if most is not None else len(options)), separator=separator
        )
        return Choice(options=options, weights=weights, several=taken)

    def _doubt(self, start: int, end: int, why: str) -> None:
        if len(self.doubts) < _DOUBTS:
            self.doubts.append(f"{self._shown(start, end)} is painted as it stands: {why}")

    def _shown(self, start: int, end: int) -> str:
        return self.text[start:end] if end - start <= _SHOWN else f"{self.text[start : start + _SHOWN - 1]}…"


def escaped(sentence: str) -> str:
    """A template that stands for exactly this sentence."""
    return re.sub(r"[{|}]|(?<=[_\\])_", lambda found: "\\" + found[0], sentence)


def has_choices(sentence: str) -> bool:
    """Whether something in a sentence would be a choice or a list in a prompt file."""
    try:
        braces = _braces(sentence).values()
    except BadSetting:  # too deep for one, and so there are some
        return True
    return any(pair.bars and pair.end is not None for pair in braces) or _LIST.search(sentence) is not None


def _weighed(line: str) -> tuple[str, float | None]:
    """A line of a list without its weight, and the weight."""
    match = _WEIGHT.match(line)
    return (line[match.end() :], float(match[1])) if match is not None else (line, None)


def _braces(text: str) -> dict[int, _Braces]:
    """All braces, by where they open. Raises BadSetting if choices are nested too deep."""
    found: dict[int, _Braces] = {}
    pending: list[int] = []
    plain: list[int] = []  # opened after a backslash
    escape = False
    for k, char in enumerate(text):
        if escape:
            escape = False
            if char in _SPECIAL:
                plain += [k] if char == "{" else []
                continue
        if char == "\\":
            escape = True
        elif char == "{":
            found[k] = _Braces()
            pending.append(k)
        elif char == "|" and pending:
            found[pending[-1]].bars.append(k)
        elif char == "}" and pending:
            closed = found[pending.pop()]
            closed.end = k
            if closed.bars and len(pending) >= DEPTH:
                raise BadSetting(f"choices are nested more than {DEPTH} deep")
        elif char == "}" and plain:
            found[plain.pop()] = _Braces(end=k)
    return found


def _draws(seed: int) -> Iterator[int]:
    """Random numbers that are the same with every version of every library."""
    k = 0
    while True:
        yield int.from_bytes(hashlib.sha256(f"wildcard {seed} {k}".encode()).digest()[:8], "big")
        k += 1

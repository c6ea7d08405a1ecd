"""What a language model is told before it rewrites, and how its answer is read.

An answer is words that are painted, and nothing else: no option and no file is ever read from it.
"""

import re
from collections.abc import Sequence
from typing import Final

from dallecli.knowledge import Knowledge
from dallecli.limits import REWRITTEN_CHARACTERS
from dallecli.rewriting.chat import Messages
from dallecli.safe import is_hidden

_ANY: Final = """\
You rewrite prompts for a model that paints pictures from text. Say what is to be seen: the subject, what it does, the \
place, the light, the style. Keep all that the prompt asks for, with its names, numbers, colours and style, and add no \
person or thing that changes what it is about. Write plain English of at most 50 words: the model reads no more than \
about 75 tokens. Answer with the rewritten prompt alone, in one paragraph, without quotes or comments."""

_WORDS: Final = """\
You rewrite prompts for a small model that paints pictures from text. It knows the words below, and no others. Say \
what the prompt means with these words alone, as closely as they can: for what the model does not know, take what \
looks most like it or does the same. One or two things are enough. Write one sentence of at most 15 words, such as \
"{example}". Answer with that sentence alone, without quotes or comments.

{words}"""

_CLASSES: Final = """\
You choose what a model paints that knows classes instead of prompts. Answer with the one class below that is most \
like what the prompt means: its name alone, exactly as it is written here.

{classes}"""

_SEVERAL: Final = """

There are {count} prompts, one a line, with numbers. Answer with {count} lines, numbered in the same way."""

_COMPARED: Final = """

The first says what a picture shows, the second what it is to show instead, and only their difference counts: whatever \
they share has to be the same in both, word for word."""

_THOUGHTS: Final = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THOUGHT: Final = re.compile(r".*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE: Final = re.compile(r"\s*```\w*\s*")
_NUMBER: Final = re.compile(r"\s*(?:\d{1,3}[.):]|[-*•])\s+")
_LABEL: Final = re.compile(r"(?:\w+ )?(?:prompt|sentence|class):\s*", re.IGNORECASE)
_QUOTES: Final = ('""', "''", "“”", "‘’", "«»", "„“", "``")


def brief(task: str, sentences: Sequence[str], knowledge: Knowledge) -> Messages:
    """The question: what the model is that paints, and what it is asked for."""
    if knowledge.classes is not None:
        names = [knowledge.classes.name(number) for number in range(len(knowledge.classes))]
        said = _CLASSES.format(classes="\n".join(names))
    elif knowledge.words:
        kinds = [f"{kind}: {', '.join(phrases)}" for kind, phrases in knowledge.words.items()]
        said = _WORDS.format(words="\n".join(kinds), example=_example(knowledge))
    else:
        said = _ANY
    if len(sentences) > 1:
        said += _SEVERAL.format(count=len(sentences))
    if task == "edit":
        said += _COMPARED
    asked = (
        "\n".join(f"{k}. {_line(text)}" for k, text in enumerate(sentences, 1)) if len(sentences) > 1 else sentences[0]
    )
    return [{"role": "system", "content": said}, {"role": "user", "content": asked}]


def again(messages: Messages, answer: str, doubts: Sequence[str]) -> Messages:
    """The question once more, with what is wrong with the first answer."""
    complaint = f"{' '.join(doubts)} Answer once more, in the same form."
    return [*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": complaint}]


def read(answer: str, count: int) -> list[str] | None:
    """The sentences in an answer, as many as are expected; None for any other number, or for what is no sentence."""
    text = _THOUGHT.sub("", _THOUGHTS.sub("", answer))
    lines = [line for line in text.splitlines() if line.strip() and not _FENCE.fullmatch(line)]
    if len(lines) > count and lines[0].rstrip().endswith(":"):
        lines = lines[1:]  # "Here is the prompt:"
    found = [_cleaned(line) for line in (lines if count > 1 else [" ".join(lines)])]
    whole = len(found) == count and all(0 < len(sentence) <= REWRITTEN_CHARACTERS for sentence in found)
    return found if whole else None


def _cleaned(line: str) -> str:
    """A sentence without number, label, quotes, line breaks, and characters that nobody sees."""
    text = _line("".join(char if not is_hidden(char) else " " if char.isspace() else "" for char in line))
    text = _LABEL.sub("", _NUMBER.sub("", text.replace("**", ""), count=1), count=1)
    while len(text) > 1 and text[0] + text[-1] in _QUOTES:
        text = text[1:-1].strip()
    return text


def _line(text: str) -> str:
    return " ".join(text.split())


def _example(knowledge: Knowledge) -> str:
    """A sentence of words that the model knows, of the kinds that all such models have."""
    things = list(knowledge.words.get("things", ()))
    colours = list(knowledge.words.get("colours", ()))
    colour = f"{colours[0]} " if colours else ""
    return f"a {colour}{things[0]} next to a {things[-1]}" if things else f"a {colour}picture"

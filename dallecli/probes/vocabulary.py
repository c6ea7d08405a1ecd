"""Which nonsense words does a model know? After Daras & Dimakis 2022, https://arxiv.org/abs/2206.00169.

A word that means nothing to people is painted several times, and CLIP looks at the pictures. If it means something to
the model, they are more alike than pictures of different words, and there is a real word that they are near to. That
word is painted, too. Two controls are treated in the same way: real words, and the letters of each word in another
order, which look as much like a word and should mean as little.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from dallecli.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

Kind = Literal["nonsense", "shuffled", "real"]

NEAREST: Final = 3
"""How many of the nearest words are shown."""

FEWEST_WORDS: Final = 2
"""A word that has nothing beside it is always the nearest."""

_NOUNS: Final = (
    "apple airplane banana beach bear bicycle bird boat book bottle bridge bus butterfly cake car castle cat "
    "chair church city cloud cow cup desert dog dress elephant face farm field fire fish flower forest fruit "
    "garden guitar hat horse house insect island kitchen lake lamp leaf lion man map moon mountain ocean owl "
    "painting person piano pizza plane plant rabbit rain river road robot rock room sea sheep shoe sky snake "
    "snow spider spoon star street sun table teapot tiger tower train tree truck umbrella vegetable water "
    "whale window woman "
)
NOUNS: Final = tuple(_NOUNS.split())
"""What CLIP chooses from where neither the user nor the model names words."""

_BEGINNINGS: Final = (
    "b",
    "br",
    "c",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gl",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "r",
    "s",
    "st",
    "t",
    "v",
    "vr",
    "w",
    "z",
)
_MIDDLES: Final = ("a", "e", "i", "o", "u", "ai", "oo", "ou")
_ENDS: Final = ("", "", "l", "n", "r", "s", "t", "x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What was found of one word."""

    word: str
    kind: Kind
    consistency: float
    """The mean cosine of pairs of its pictures, less that of pairs of pictures of different words."""
    nearest: tuple[tuple[str, float], ...]
    """The words nearest to its pictures, the nearest first, each with how much nearer it is to them than to others'."""
    read: str
    """The word that CLIP's text tower alone finds nearest to it."""
    agreement: float
    """The rank correlation, from -1 to 1, of what pictures and text tower find nearest."""
    again: float | None = None
    """The cosine of the means of its pictures and those of the nearest word; None if these are not painted."""

    def facts(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "word": self.word,
            "kind": self.kind,
            "consistency": round(self.consistency, 6),
            "nearest": [{"word": word, "score": round(score, 6)} for word, score in self.nearest],
            "read": self.read,
            "agreement": round(self.agreement, 6),
            "again": None if self.again is None else round(self.again, 6),
        }


def nonsense(count: int, seed: int) -> list[str]:
    """Different words of two or three syllables that are none, the same for a seed whatever the model is."""
    rng = random.Random(f"nonsense {seed}")  # of text, it is the same with every version
    known, found = set(NOUNS), dict[str, None]()
    while len(found) < count:
        syllables = rng.choice((2, 3))
        word = "".join(rng.choice(_BEGINNINGS) + rng.choice(_MIDDLES) for _ in range(syllables)) + rng.choice(_ENDS)
        if word not in known:
            found[word] = None
    return list(found)


def shuffled(word: str, seed: int) -> str:
    """The letters of a word in another order, if there is any; blanks stay where they are."""
    rng = random.Random(f"shuffled {seed} {word}")
    letters = [char for char in word if not char.isspace()]
    for _ in range(20):
        mixed = rng.sample(letters, k=len(letters))
        left = iter(mixed)
        found = "".join(char if char.isspace() else next(left) for char in word)
        if found != word:
            return found
    return word


def with_controls(words: Sequence[str], against: Sequence[str], seed: int) -> list[tuple[str, Kind]]:
    """Words with their kinds, and as many of both controls: shuffled letters, and some of the real words.

    A word that comes twice counts once. Raises BadInput for no words, or too few real ones.
    """
    unique = list(dict.fromkeys(words))
    if not unique:
        raise BadInput("there is no word to probe", hint="name one, or let some be made: --random 4")
    real = list(dict.fromkeys(against))
    if len(real) < FEWEST_WORDS:
        raise BadInput(
            "there are too few words to choose the nearest from", hint=f"at least {FEWEST_WORDS} in --against"
        )
    rng = random.Random(f"real {seed}")
    chosen = rng.sample(real, k=min(len(unique), len(real)))
    taken: dict[str, Kind] = dict.fromkeys(unique, "nonsense")
    for word in unique:
        taken.setdefault(shuffled(word, seed), "shuffled")
    for word in chosen:
        taken.setdefault(word, "real")
    return list(taken.items())


def probe(
    words: Sequence[tuple[str, Kind]],
    pictures: "Sequence[Numbers]",
    texts: "Numbers",
    against: Sequence[str],
    readings: "Numbers",
) -> list[Probed]:
    """What the embeddings of pictures and words say.

    pictures: for each word the embeddings [n d] of its pictures. texts: those of the words themselves [w d], by CLIP's
    text tower. readings: those of the real words [r d], in the order of `against`.

    A real word's score is its cosine to the mean of a word's pictures, less its mean cosine to the pictures of all
    words: some words are near to every picture.
    """
    import numpy as np

    units = [_unit(rows) for rows in pictures]
    means = _unit(np.stack([rows.mean(axis=0) for rows in units]))
    seen, read = (_lifts(rows @ _unit(readings).T) for rows in (means, _unit(texts)))
    found = []
    for k, (word, kind) in enumerate(words):
        order = np.argsort(-seen[k], kind="stable")
        found.append(
            Probed(
                word=word,
                kind=kind,
                consistency=_within(units[k]) - _between(units, k),
                nearest=tuple((against[j], float(seen[k, j])) for j in order[:NEAREST]),
                read=against[int(np.argmax(read[k]))],
                agreement=_rank_correlation(seen[k], read[k]),
            )
        )
    return found


def cosine_of_means(first: "Numbers", second: "Numbers") -> float:
    """The cosine of the mean embeddings of two groups of pictures [n d]."""
    import numpy as np

    one, other = (_unit(_unit(rows).mean(axis=0)[None])[0] for rows in (first, second))
    return float(np.dot(one, other))


def _unit(rows: "Numbers") -> "Numbers":
    import numpy as np

    unit: Numbers = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return unit


def _lifts(cosines: "Numbers") -> "Numbers":
    """Cosines [w r] less the mean of each real word over all words."""
    lifts: Numbers = cosines - cosines.mean(axis=0, keepdims=True)
    return lifts


def _within(rows: "Numbers") -> float:
    """The mean cosine of different rows; 1 for a single one, which is like itself."""
    count = len(rows)
    return float((rows @ rows.T).sum() - count) / (count * (count - 1)) if count > 1 else 1.0


def _between(groups: "Sequence[Numbers]", k: int) -> float:
    """The mean cosine of the rows of one group with those of all others."""
    import numpy as np

    others = [rows for j, rows in enumerate(groups) if j != k]
    return float((groups[k] @ np.concatenate(others).T).mean()) if others else 0.0


def _rank_correlation(first: "Numbers", second: "Numbers") -> float:
    """Spearman's: that of the places in both orders."""
    import numpy as np

    places = [
        np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64) for values in (first, second)
    ]
    if len(first) < 2:
        return 0.0
    return float(np.corrcoef(places[0], places[1])[0, 1])

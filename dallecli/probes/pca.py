"""What CLIP says of a picture, component by component: Ramesh et al. 2022, figure 7, https://arxiv.org/abs/2204.06125.

The principal components of many image embeddings span most of what CLIP can say. An embedding that is projected onto
the first k of them, and painted, shows what those k components hold:

    z_k = mu + V_k V_k^T (z - mu)

with the components in the order of falling variance. k = 0 is the mean of what was fitted, k = the rank changes nothing
of an embedding that was among it. The length of z_k is left as it comes out: the paper does not say, and z is not
normalised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Final

from dallecli.errors import BadInput, BadSetting

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

COUNTS: Final = (1, 4, 16, 64)
"""How many components are kept by default, as far as there are so many."""

POOL: Final = 96
"""How many captions are imagined where nothing is given to fit on."""

FEWEST: Final = 3
"""With fewer embeddings there is one component at most."""

Kinds = dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Components:
    """The principal components of some embeddings, in float64."""

    mean: "Numbers"
    """[d]"""
    axes: "Numbers"
    """[r d], orthonormal, by falling variance; r is the rank."""
    variances: "Numbers"
    """[r], the sum of squares along each axis, above 0."""

    @property
    def rank(self) -> int:
        """How many components there are: at most one less than embeddings."""
        return len(self.axes)

    def project(self, vector: "Numbers", count: int) -> "Numbers":
        """z_k [d] of an embedding [d], for k from 0 to the rank."""
        kept = self.axes[:count]
        return self.mean + (vector - self.mean) @ kept.T @ kept

    def kept(self, count: int) -> float:
        """The share of the variance of what was fitted that the first components have, from 0 to 1."""
        return float(self.variances[:count].sum() / self.variances.sum())

    def error(self, vector: "Numbers", count: int) -> float:
        """How much of an embedding is lost, as a share of its distance from the mean: 0 is nothing, 1 all."""
        import numpy as np

        whole = np.linalg.norm(vector - self.mean)
        return float(np.linalg.norm(vector - self.project(vector, count)) / whole) if whole > 0 else 0.0


def fit(vectors: "Sequence[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]") -> Components:
    """The components of embeddings [d], in any order. Raises BadInput for fewer than `FEWEST`, or if all are one."""
    import numpy as np

    check_enough(len(vectors), None)
    rows = np.stack(vectors).astype(np.float64)
    mean = rows.mean(axis=0)
    _, lengths, axes = np.linalg.svd(rows - mean, full_matrices=False)
    # What float32 rounded is no component.
    rank = int((lengths > lengths[0] * 1e-6).sum()) if lengths[0] > 0 else 0
    if rank == 0:
        raise BadInput("all that is to be fitted on is the same", hint="name different pictures: --fit FOLDER")
    return Components(mean=mean, axes=axes[:rank], variances=lengths[:rank] ** 2)


def check_enough(count: int, asked: Sequence[int] | None) -> None:
    """Refuse to fit on too few embeddings for the components that are asked for. Raises BadInput, BadSetting."""
    if count < FEWEST:
        hint = f"at least {FEWEST} pictures or sentences, better hundreds: --fit FOLDER"
        raise BadInput(f"{'one is' if count == 1 else f'{count} are'} too few to find components of", hint=hint)
    if asked is not None and max(asked) >= count:
        hint = f"at most {count - 1}, or more pictures: --fit FOLDER"
        raise BadSetting(f"{count} embeddings have {count - 1} components, and {max(asked)} are asked for", hint=hint)


def chosen_counts(asked: Sequence[int] | None, rank: int) -> list[int]:
    """How many components are kept: as asked, else `COUNTS` as far as they go. Raises BadSetting for too many."""
    if asked is None:
        return [count for count in COUNTS if count < rank] + [rank]
    for count in asked:
        if not 0 <= count <= rank:
            hint = f"from 0 to {rank}; there are as many as what --fit names is different"
            raise BadSetting(f"there are {rank} components, and {count} are asked for", hint=hint)
    return sorted(set(asked))


def read_counts(text: str | None) -> list[int] | None:
    """What --components means. Raises BadSetting."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts):
        raise BadSetting(f"--components {text!r} are not numbers", hint="as --components 1,4,16,64")
    return [int(part) for part in parts]


def captions(kinds: Kinds, count: int = POOL) -> list[str]:
    """Different sentences of what a model knows, the same each time: things in colours, at places."""
    things, colours, places = (kinds.get(kind, []) for kind in ("things", "colours", "places"))
    shades, spots = colours or [""], [f" {place}" for place in places] or [""]
    total = len(things) * len(shades) * len(spots)
    # All combinations, in steps that share no factor with their number: so the first ones are of everything.
    stride = next((s for s in range(round(0.618 * total), 2 * total) if gcd(s, total) == 1), 1)
    found = []
    for k in range(min(count, total)):
        place, thing = divmod(k * stride % total, len(things))
        spot, shade = divmod(place, len(shades))
        said = f"{shades[shade]} {things[thing]}".strip()
        found.append(f"{article(said)} {said}{spots[spot]}")
    return found


def article(word: str) -> str:
    """The indefinite article of a word."""
    return "an" if word[:1].lower() in "aeiou" else "a"

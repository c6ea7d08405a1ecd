"""`dalle probe vocabulary`: which nonsense words mean something to a model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import PICTURES

if TYPE_CHECKING:
    import numpy as np

    from dallecli.cli.probing import Probing
    from dallecli.embedding_file import Embedded
    from dallecli.pictures.picture import Picture
    from dallecli.probes.vocabulary import Probed
    from dallecli.recipe import Recipe

    Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

MADE = 4
"""Nonsense words that are made where none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyOptions:
    """Which words are probed, and with what CLIP compares their pictures."""

    random: Annotated[
        int | None,
        typer.Option(
            "--random",
            metavar="N",
            min=0,
            max=50,
            help=f"Probe N words that the seed makes of syllables. {MADE} if no word is given.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="FILE",
            help="Real words, one a line, of which the nearest are found. What the model knows if not given.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    judge: options.Judge = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WordOptions:
    """How each word is painted."""

    n: options.Num = 4
    picture: options.PictureOptions
    model: options.ModelOptions
    dials: options.ChainDials
    tokens: options.TokenDials


@folded
def vocabulary(
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Words that mean nothing to people.", show_default=False),
    ] = None,
    asked: VocabularyOptions,
    painted: WordOptions,
    engine: options.EngineOptions,
    server: options.ServerOptions,
    output: options.OutputOptions,
    reporting: options.PictureReporting,
) -> None:
    """Find out whether nonsense words mean something to a model.

    Each word is painted --num times, CLIP finds the real word that the pictures are nearest to, and that one is
    painted, too. Beside them stand two controls: their letters in another order, and real words. Consistency says how
    much more alike the pictures of a word are than those of different words; "read as" is what CLIP's text tower alone
    makes of the word; "again" compares the pictures with those of the nearest word.

    \b
    Examples:
      dalle probe vocabulary --seed 7
      dalle probe vocabulary "apoploe vesrreaitais" vicootes --model karlo
      dalle probe vocabulary --random 8 --against words.txt --judge clip-vit-b-32 --model glide
    """
    from dallecli.cli.display import Display
    from dallecli.cli.output import plan
    from dallecli.cli.probing import Probing
    from dallecli.filling import random_seed
    from dallecli.probes.vocabulary import nonsense, probe, with_controls

    began, seed = time.perf_counter(), painted.picture.seed
    painted = replace(painted, picture=replace(painted.picture, seed=seed if seed is not None else random_seed()))
    out = plan(output, pictures=2, noun="words", as_json=reporting.json)
    display = Display(quiet=reporting.quiet)
    probing = Probing(engine=server.engine(engine), output=out, reporting=reporting, display=display)
    own, first = words if words is not None else [], painted.picture.seed or 0
    made = nonsense(asked.random if asked.random is not None else 0 if own else MADE, first)
    against = _against(asked, painted.model.model)
    pairs = with_controls([*own, *made], against, first)
    recipes = [_recipe(word, painted, probing) for word, _ in pairs]
    probing.probe_room([*recipes, *recipes])
    judge = asked.judge if asked.judge is not None else painted.model.model
    texts = _texts([word for word, _ in pairs], against, judge, asked, painted, probing)
    pictures = probing.paint(recipes)
    seen = [_seen(several, judge, painted, probing) for several in pictures]
    found = probe(pairs, seen, texts[: len(pairs)], against, texts[len(pairs) :])
    _paint_again(found, pictures, seen, judge, painted, probing, began)


def _recipe(prompt: str, painted: WordOptions, probing: "Probing") -> "Recipe":
    from dallecli.tasks.builder import build_request

    return probing.engine.resolve(build_request("generate", {"prompt": prompt}, options.values_of(painted)))


def _against(asked: VocabularyOptions, model: str) -> list[str]:
    """The real words: of a file, else what the model knows, else common nouns. Raises BadInput."""
    from dallecli.cli.probing import known_kinds
    from dallecli.errors import BadInput, reason
    from dallecli.limits import LIST_BYTES, read_file
    from dallecli.probes.vocabulary import NOUNS

    if asked.against is None:
        kinds = known_kinds(model)
        return kinds["things"] if kinds is not None and kinds.get("things") else list(NOUNS)
    try:
        lines = read_file(asked.against, LIST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise BadInput(f"the words cannot be read: {why}", where=str(asked.against)) from error
    return list(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))


def _texts(
    words: Sequence[str],
    against: Sequence[str],
    judge: str,
    asked: VocabularyOptions,
    painted: WordOptions,
    probing: "Probing",
) -> "Numbers":
    """What CLIP's text tower reads in the words, and then in the real ones [w+r d]."""
    from dallecli.errors import TaskNotSupported
    from dallecli.source import words as source_of_words
    from dallecli.weights.registry import judges

    said = [source_of_words(text) for text in (*words, *map(_sentence, against))]
    try:
        found = probing.embed(said, judge, device=painted.model.device, dtype=painted.model.dtype)
    except TaskNotSupported as error:
        hint = f"--judge {judges()[0]} looks at its pictures" if asked.judge is None else error.hint
        raise TaskNotSupported(error.what, error.where, hint) from error
    return _rows(found)


def _sentence(word: str) -> str:
    from dallecli.probes.pca import article

    return f"{article(word)} {word}"


def _seen(pictures: "Sequence[Picture]", judge: str, painted: WordOptions, probing: "Probing") -> "Numbers":
    """What CLIP sees in pictures [n d]."""
    from dallecli.cli.probing import source_of

    sources = [source_of(picture, f"{k}.png") for k, picture in enumerate(pictures)]
    return _rows(probing.embed(sources, judge, device=painted.model.device, dtype=painted.model.dtype))


def _rows(found: "Sequence[Embedded]") -> "Numbers":
    import numpy as np

    return np.stack([one.vector for one in found]).astype(np.float64)


def _paint_again(
    found: "Sequence[Probed]",
    pictures: "Sequence[Sequence[Picture]]",
    seen: "Sequence[Numbers]",
    judge: str,
    painted: WordOptions,
    probing: "Probing",
    began: float,
) -> None:
    """Paint the nearest words, compare, write the sheet, and print the table."""
    from dallecli.probes.vocabulary import cosine_of_means

    nearest = list(dict.fromkeys(one.nearest[0][0] for one in found))
    recipes = [_recipe(_sentence(word), painted, probing) for word in nearest]
    again = dict(zip(nearest, probing.paint(recipes), strict=True))
    looked = {word: _seen(several, judge, painted, probing) for word, several in again.items()}
    compared = [
        replace(one, again=cosine_of_means(rows, looked[one.nearest[0][0]]))
        for one, rows in zip(found, seen, strict=True)
    ]
    _report(compared, pictures, again, judge, probing, began)


def _report(
    found: "Sequence[Probed]",
    pictures: "Sequence[Sequence[Picture]]",
    again: "dict[str, list[Picture]]",
    judge: str,
    probing: "Probing",
    began: float,
) -> None:
    """Write the sheet, a row a word with the nearest one beside it, and print the table."""
    from dallecli.cli.display import emit_json, emit_table
    from dallecli.pictures.sheets import Tile, contact_sheet

    tiles, count = [], len(pictures[0])
    for one, several in zip(found, pictures, strict=True):
        near = one.nearest[0][0]
        tiles += [Tile(image=picture.image, label=one.kind) for picture in several]
        tiles += [Tile(image=picture.image, label=f"nearest: {near}") for picture in again[near]]
    side = min(128, pictures[0][0].recipe.picture_size.longer)
    sheet = contact_sheet(tiles, 2 * count, side, row_titles=[one.word for one in found])
    whole = [picture for several in (*pictures, *again.values()) for picture in several]
    recipe = whole[0].recipe
    path, singles = probing.write(sheet, f"vocabulary-{recipe.seed}", whole)
    if probing.reporting.json:
        for k, one in enumerate(found):
            files = [str(single) for single in singles[k * count : (k + 1) * count]]
            told = {"seed": recipe.seed, "model": recipe.model, "judge": judge, "files": files}
            emit_json({**one.facts(), **told, "path": None if path is None else str(path)})
    elif not probing.output.destination.stdout:
        emit_table(("WORD", "KIND", "CONSISTENCY", "NEAREST", "READ AS", "AGREEMENT", "AGAIN"), map_rows(found))
    probing.display.say(_means(found))
    written = [*singles, *([path] if path is not None else [])]
    probing.finish(began, sheet, written, [picture.recipe for picture in whole])


def map_rows(found: "Sequence[Probed]") -> list[tuple[str, ...]]:
    """The rows of the table."""
    return [
        (
            one.word,
            one.kind,
            f"{one.consistency:+.3f}",
            ", ".join(f"{word} {score:+.3f}" for word, score in one.nearest),
            one.read,
            f"{one.agreement:+.2f}",
            "" if one.again is None else f"{one.again:.3f}",
        )
        for one in found
    ]


def _means(found: "Sequence[Probed]") -> str:
    """The mean consistency of each kind, in words."""
    kinds = list(dict.fromkeys(one.kind for one in found))
    of = {kind: [one.consistency for one in found if one.kind == kind] for kind in kinds}
    return "mean consistency: " + ", ".join(f"{kind} {sum(some) / len(some):+.3f}" for kind, some in of.items())

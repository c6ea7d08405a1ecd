"""`dalle probe pca`: a picture from 1, 4, 16, … of the principal components of its embedding."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import PICTURES

if TYPE_CHECKING:
    from dallecli.cli.probing import Probing
    from dallecli.embedding_file import Embedded
    from dallecli.pictures.picture import Picture
    from dallecli.probes.pca import Components
    from dallecli.recipe import Recipe
    from dallecli.source import Source


AT_ONCE = 32
"""Pictures to fit on that are in memory together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PcaOptions:
    """What the components are of, and how many are kept."""

    fit: Annotated[
        list[Path] | None,
        typer.Option(
            "--fit",
            metavar="FILE|DIR",
            help="Pictures and embeddings to find the components of, folders of them, or a .txt of sentences;"
            " repeatable. Captions of what the model knows if not given.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    components: Annotated[
        str | None,
        typer.Option(
            "--components",
            metavar="N,N,…",
            help="How many components are kept, one picture each. 1, 4, 16, 64 and all if not given.",
            rich_help_panel=PICTURES,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintedOptions:
    """How each embedding is painted."""

    picture: options.PictureOptions
    model: options.ModelOptions
    effort: options.EffortOptions
    painter: options.SamplerDials


@folded
def pca(
    *,
    image: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="A picture, or an embedding that `dalle embed` wrote; - is stdin."),
    ],
    asked: PcaOptions,
    painted: PaintedOptions,
    engine: options.EngineOptions,
    server: options.ServerOptions,
    output: options.OutputOptions,
    reporting: options.PictureReporting,
) -> None:
    """Paint a picture from the first principal components of its embedding.

    The components are those of many embeddings, the one with most variance first. All pictures have one seed, so what
    differs between them is what further components say. At the end are the whole embedding and the picture itself. The
    table has the share of the variance that is kept, and the share of this embedding that is lost.

    \b
    Examples:
      dalle probe pca cat.jpg --seed 7
      dalle probe pca cat.jpg --fit photos --components 1,8,64 -o cat-pca.png
      dalle embed photos/*.jpg --out fitted && dalle probe pca cat.jpg --fit fitted --layout both
    """
    from dallecli.cli.display import Display
    from dallecli.cli.output import plan
    from dallecli.cli.painting import warn
    from dallecli.cli.probing import Probing
    from dallecli.probes.pca import chosen_counts, fit, read_counts
    from dallecli.source import read_source

    began, counts, source = time.perf_counter(), read_counts(asked.components), read_source(image)
    out = plan(output, pictures=2, noun="pictures", as_json=reporting.json)
    display = Display(quiet=reporting.quiet)
    probing = Probing(engine=server.engine(engine), output=out, reporting=reporting, display=display)
    whole = _recipe(source, painted, probing)
    probing.probe_room([whole] * (len(counts) + 1 if counts is not None else 6))
    warn([whole], probing.display)
    z = _embedded([source], painted, probing)[0]
    components = fit([one.vector for one in _fitted(asked.fit, counts, painted, whole.seed, probing)])
    kept = chosen_counts(counts, components.rank)
    sources = [_projected(z, components, count, source) for count in kept]
    recipes = [
        *(_recipe(one, painted, probing, whole.seed) for one in sources),
        _recipe(source, painted, probing, whole.seed),
    ]
    pictures = [several[0] for several in probing.paint(recipes)]
    _report(z, components, kept, pictures, source, probing, began)


def _recipe(source: "Source", painted: PaintedOptions, probing: "Probing", seed: int | None = None) -> "Recipe":
    """A variation of a picture or embedding, with DDIM, as in the paper, unless something else is asked."""
    from dallecli.tasks.builder import build_request

    values = options.values_of(painted)
    if values.get("sampler") is None and values.get("effort") is None:
        values["sampler"] = "ddim"
    given: dict[str, object] = {"image": source}
    return probing.engine.resolve(build_request("vary", given if seed is None else given | {"seed": seed}, values))


def _embedded(sources: "Sequence[Source]", painted: PaintedOptions, probing: "Probing") -> "list[Embedded]":
    """What CLIP sees in pictures. Raises BadEmbedding for the embedding of a sentence."""
    from dallecli.errors import BadEmbedding

    model = painted.model
    found = probing.embed(sources, model.model, device=model.device, dtype=model.dtype)
    for one in found:
        if one.kind != "image":
            what = "this is the embedding of a sentence, and no picture is painted of it"
            raise BadEmbedding(what, one.name, "dalle embed --imagine makes one of a sentence that is")
    return found


def _fitted(
    paths: Sequence[Path] | None,
    counts: Sequence[int] | None,
    painted: PaintedOptions,
    seed: int,
    probing: "Probing",
) -> "list[Embedded]":
    """The embeddings to fit on: of files, or imagined of sentences, in files or of what the model knows."""
    from dallecli.probes.pca import check_enough
    from dallecli.source import read_source, words

    files, sentences = _named(paths) if paths is not None else ([], _captions(painted.model.model))
    check_enough(len(files) + len(sentences), counts)
    found: list[Embedded] = []
    for k in range(0, len(files), AT_ONCE):
        found += _embedded([read_source(file) for file in files[k : k + AT_ONCE]], painted, probing)
    if sentences:
        model = painted.model
        imagined: dict[str, Any] = {"imagine": True, "effort": "fast", "seed": seed}
        inputs = [words(sentence) for sentence in sentences]
        found += probing.embed(inputs, model.model, device=model.device, dtype=model.dtype, **imagined)
    return found


def _named(paths: Sequence[Path]) -> tuple[list[str], list[str]]:
    """The files that --fit names, and the sentences in its texts. Raises BadInput for none of either."""
    from dallecli.errors import BadInput, reason
    from dallecli.limits import LIST_BYTES, read_file
    from dallecli.source import EMBEDDING_SUFFIX, PICTURE_SUFFIXES

    files: list[str] = []
    sentences: list[str] = []
    for path in paths:
        try:
            if path.is_dir():
                there = sorted(path.iterdir())
                files += [str(one) for one in there if one.suffix.lower() in (*PICTURE_SUFFIXES, EMBEDDING_SUFFIX)]
            elif path.suffix.lower() == ".txt":
                lines = read_file(path, LIST_BYTES).decode("utf-8-sig").splitlines()
                sentences += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            else:
                path.stat()  # or it is not there
                files.append(str(path))
        except (OSError, UnicodeDecodeError) as error:
            why = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
            raise BadInput(f"this cannot be read: {why}", where=str(path)) from error
    if not files and not sentences:
        where = ", ".join(str(path) for path in paths)
        raise BadInput("there is nothing to fit on", where, "pictures, embeddings, or a .txt with a sentence a line")
    return files, sentences


def _captions(model: str) -> list[str]:
    """Sentences of what a model knows. Raises BadInput where it does not say so."""
    from dallecli.cli.probing import known_kinds
    from dallecli.errors import BadInput
    from dallecli.probes.pca import captions

    kinds = known_kinds(model)
    found = captions(kinds) if kinds is not None else []
    if not found:
        what = f"{model} does not say what it knows, so there is nothing to find components of"
        raise BadInput(what, hint="name pictures: --fit FOLDER; or sentences: --fit captions.txt")
    return found


def _projected(z: "Embedded", components: "Components", count: int, source: "Source") -> "Source":
    """An embedding of the first components, as an input that a recipe holds."""
    import hashlib
    from dataclasses import replace

    import numpy as np

    from dallecli.source import EMBEDDING_SUFFIX, Source

    name = f"{_stem(source)}-pca-{count}{EMBEDDING_SUFFIX}"
    vector = components.project(z.vector.astype(np.float64), count).astype(np.float32)
    data = replace(z, vector=vector, name=name, noise={}).encode()
    return Source(kind="embedding", name=name, sha256=hashlib.sha256(data).hexdigest(), data=data)


def _stem(source: "Source") -> str:
    from pathlib import PurePath

    from dallecli.pictures.names import slug

    return slug(PurePath(source.recorded().name).stem)


def _report(
    z: "Embedded",
    components: "Components",
    kept: Sequence[int],
    pictures: "Sequence[Picture]",
    source: "Source",
    probing: "Probing",
    began: float,
) -> None:
    """Write the sheet, and print the table."""
    import numpy as np

    from dallecli.cli.display import emit_json, emit_table
    from dallecli.pictures.reading import read_picture
    from dallecli.pictures.sheets import Tile, contact_sheet

    vector = z.vector.astype(np.float64)
    facts = [(count, components.kept(count), components.error(vector, count)) for count in kept]
    labels = [f"{count} of {components.rank}: {share:.1%}" for count, share, _ in facts]
    tiles = [Tile(image=one.image, label=label) for one, label in zip(pictures, [*labels, "all of it"], strict=True)]
    if source.kind == "picture":
        tiles.append(Tile(image=read_picture(source).image, label="the picture"))
    columns = min(len(tiles), 8)
    sheet = contact_sheet(tiles, columns, min(256, pictures[0].recipe.picture_size.longer))
    recipe = pictures[0].recipe
    path, singles = probing.write(sheet, f"{_stem(source)}-pca-{recipe.seed}", pictures)
    paths = [str(one) for one in singles] if singles else [str(path)] * len(pictures)
    if probing.reporting.json:
        for k, (count, share, lost) in enumerate(facts):
            tile = [k % columns, k // columns] if not singles else None
            told = {"components": count, "rank": components.rank, "variance": share, "lost": lost}
            emit_json({**told, "seed": recipe.seed, "model": recipe.model, "path": paths[k], "tile": tile})
    elif not probing.output.destination.stdout:
        rows = [(str(count), f"{share:.1%}", f"{lost:.1%}", paths[k]) for k, (count, share, lost) in enumerate(facts)]
        emit_table(("COMPONENTS", "VARIANCE", "LOST", "FILE"), rows)
    written = [*singles, *([path] if path is not None else [])]
    probing.finish(began, sheet, written, [one.recipe for one in pictures])

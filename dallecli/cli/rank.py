"""`dalle rank`: which sentence fits a picture best, and which picture a sentence."""

from typing import TYPE_CHECKING

from dallecli.cli import options
from dallecli.cli.folding import folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dallecli.embedding_file import Embedded
    from dallecli.source import Source


@folded
def rank(
    things: options.Things,
    model: options.ModelOptions,
    memory: options.MemoryOptions,
    server: options.ServerOptions,
    reporting: options.Reporting,
) -> None:
    """Score how well sentences and pictures fit.

    For each picture, the best sentence comes first; for a single sentence, the best picture. The score is the cosine
    between what CLIP sees and what it reads; the share is how likely CLIP finds the sentence if exactly one of them is
    true. An argument is a file if there is one of that name, else a sentence.

    \b
    Examples:
      dalle rank cat.jpg "a cat" "a dog" "a red car"
      dalle rank *.png "a cat in the snow" | head -3
      dalle rank --json *.png "day" "night" | jq -r 'select(.text == "night" and .share > 0.9).path'
    """
    from dallecli.arguments import read_batches
    from dallecli.cli.display import Display, emit_json, emit_table
    from dallecli.cli.many import Many
    from dallecli.cli.run import Part
    from dallecli.ranking import rank as ranked
    from dallecli.safe import safe
    from dallecli.tasks.builder import build_embed
    from dallecli.unknown import unknown_notices

    display = Display(quiet=reporting.quiet)
    engine = server.engine(memory)
    many = Many(len(things), display, as_json=reporting.json)
    found: list[tuple[Source, Embedded]] = []

    def embedded(batch: "Sequence[Source]") -> "list[Embedded]":
        request = build_embed({"inputs": batch}, options.values_of(model))
        with display.running(model.model, [Part(pictures=len(batch), noun="input")]):
            return engine.embed(request, display.progress)

    for batch in read_batches(things, passing_over=many.passing_over):
        found += many.together(embedded, batch, lambda source: source.name)
    for notice in unknown_notices([one for _, one in found]):
        display.warn(safe(notice, 400))
    scores = ranked([one for _, one in found], [source.name for source, _ in found])
    if reporting.json:
        for one in scores:
            facts = {"path": one.picture, "text": one.text, "score": one.score, "share": one.share}
            emit_json({**facts, "unknown": one.unknown.to_dict()})
    else:
        rows = [(f"{one.score:.3f}", f"{one.share:.1%}", one.picture, one.text) for one in scores]
        emit_table(("SCORE", "SHARE", "PICTURE", "TEXT"), rows)
    many.finish()

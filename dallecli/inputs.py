"""Everything about a request's files that can be wrong, found before any weights are loaded. No torch here."""

from dallecli.embedding_file import check_space, read_embedding
from dallecli.errors import BadEmbedding
from dallecli.size import Size
from dallecli.source import Source
from dallecli.tasks.inpaint import Inpaint
from dallecli.tasks.task import ModelRequest


def check_inputs(request: ModelRequest, size: Size, space: str | None = None) -> tuple[str, ...]:
    """Decode every picture, embedding and mask of a request; return what its author should be warned of.

    `size` is what the model is going to paint, and `space` names its CLIP; None: it has none.

    Raises: BadInput, BadPicture, BadMask, BadEmbedding, BadSetting.
    """
    if all(source.kind == "text" for source in request.sources):
        return ()
    # They import Pillow and numpy: who asks with words alone is answered sooner.
    from dallecli.pictures.canvas import lay_out
    from dallecli.pictures.reading import read_picture

    if isinstance(request, Inpaint):
        return lay_out(request.image, request.mask, request.expand, size.width).warnings
    warnings: list[str] = []
    for source in request.sources:
        if source.kind == "embedding":
            _check_embedding(source, request, space)
        elif source.kind == "picture":
            warnings += read_picture(source).warnings
    return tuple(warnings)


def _check_embedding(source: Source, request: ModelRequest, space: str | None) -> None:
    if space is None:
        raise BadEmbedding("this model does not paint from embeddings", where=source.name)
    embedded = read_embedding(source)
    check_space(embedded, space, source.name)
    if embedded.kind == "text" and request.takes_embeddings:
        hint = "say the words themselves, or embed them with --imagine"
        raise BadEmbedding("this is the embedding of a sentence, not of a picture", where=source.name, hint=hint)
    if request.takes_embeddings and request.inversion is not None and not embedded.noise:
        hint = "make it with: dalle embed --invert"
        raise BadEmbedding("this embedding brings no noise to start from", where=source.name, hint=hint)

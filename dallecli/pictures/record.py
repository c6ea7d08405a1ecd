"""A finished picture in plain data: what `--json` prints of it, one object a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture

RECORD: Mapping[str, str] = {
    "path": "the file that holds the picture",
    "tile": "its column and row in that file, from 0, if it is a sheet; else null",
    "index": "which of the pictures of its prompt or input it is, from 0; null for a sheet beside single files",
    "count": "1; for a sheet beside single files (`--layout both`), its number of pictures",
    "task": "the command that made it",
    "prompt": "the prompt that was painted, whole; empty if none was given",
    "rewritten": "who rewrote it (`by`), and what was `asked` for and is `painted` in all `sentences`; else null",
    "class": "the class that was painted; null if none was named",
    "truncated": "whether the model read less than all of it",
    "dropped": "the words that it did not read",
    "unknown": "what the model does not know of the request: its `words`, and `pictures` unlike all that it saw",
    "inputs": "what it was made from: for each input its kind, name and sha256",
    "position": "where on the way between the ends, or how far towards the other sentence; null for other tasks",
    "seed": "the seed of this very picture",
    "model": "the model's name",
    "digest": "the sha256 of its files that were used",
    "size": "the side in pixels of what the model painted, or width and height as a text where it was no square",
    "width": "the width of the picture in pixels",
    "height": "its height",
    "device": "where it was painted",
    "dtype": "with which numbers",
    "threads": "with how many threads of a CPU; null elsewhere, and where the picture does not depend on it",
    "together": "how many pictures were painted at a time; null where the picture does not depend on it",
    "compiled": "whether torch compiled the networks",
    "scores": "named scores of the picture, higher is better",
    "judge": "the `name` and `digest` of what gave the score of that name; null where no other model scored it",
    "seconds": "how long it took to paint",
}
"""The keys of a record, and what they mean."""


def picture_record(
    picture: "Picture", index: int, path: Path | None, tile: tuple[int, int] | None = None
) -> dict[str, Any]:
    """One picture for `--json`. Where `path` is a sheet, `tile` is its column and row there, from 0."""
    recipe = picture.recipe
    settings = recipe.settings
    return {
        "path": None if path is None else str(path),
        "tile": None if tile is None else list(tile),
        "index": index,
        "count": 1,
        "task": recipe.task,
        "prompt": recipe.prompt,
        "rewritten": None if recipe.rewritten is None else recipe.rewritten.to_dict(),
        "class": recipe.settings.class_name,
        "truncated": bool(recipe.dropped),
        "dropped": list(recipe.dropped),
        "unknown": recipe.unknown.to_dict(),
        "inputs": [{"kind": given.kind, "name": given.name, "sha256": given.sha256} for given in recipe.inputs],
        "position": recipe.position,
        "seed": recipe.seed,
        "model": recipe.model,
        "digest": recipe.digest,
        "size": recipe.size.stated,
        "width": picture.image.width,
        "height": picture.image.height,
        "device": recipe.device,
        "dtype": recipe.dtype,
        "threads": recipe.threads,
        "together": recipe.together,
        "compiled": recipe.compiled,
        "scores": dict(picture.scores),
        "judge": None if settings.judge is None else {"name": settings.judge, "digest": settings.judge_digest},
        "seconds": round(picture.seconds, 3),
    }

"""What the probes have in common: many requests of one seed are painted, onto a sheet and into files of their own."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dallecli.cli.options import PictureReporting

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.cli.display import Display
    from dallecli.cli.output import Output
    from dallecli.embedding_file import Embedded
    from dallecli.engine import Engine
    from dallecli.pictures.picture import Picture
    from dallecli.recipe import Recipe
    from dallecli.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """A probe at work: with which engine, where its pictures go, and what is said."""

    engine: "Engine"
    output: "Output"
    reporting: PictureReporting
    display: "Display"

    def probe_room(self, recipes: "Sequence[Recipe]") -> None:
        """Find out, by trying, that the results can be written. Raises BadOutput, BadSetting, DiskFull."""
        from dallecli.cli.destination import probe_destination
        from dallecli.filling import check_kept

        check_kept(sum(recipe.count for recipe in recipes), recipes[0].size)
        space = sum(2 * 3 * recipe.size.pixels * recipe.count for recipe in recipes)
        probe_destination(self.output.destination, space, self.display)

    def paint(self, recipes: "Sequence[Recipe]") -> "list[list[Picture]]":
        """The pictures of every recipe, in order."""
        from dallecli.cli.painting import running

        found = []
        with running(recipes, self.display):
            self.engine.expect(recipes)
            for recipe in recipes:
                self.display.begin()
                found.append(list(self.engine.paint(recipe, self.display.progress)))
        return found

    def embed(self, inputs: "Sequence[Source]", model: str, **values: object) -> "list[Embedded]":
        """The embeddings of pictures and sentences, in order, by the CLIP of a model."""
        from dallecli.cli.run import Part
        from dallecli.tasks.builder import build_embed

        request = build_embed({"inputs": list(inputs), "model": model, **values})
        with self.display.running(model, [Part(pictures=len(inputs), noun="input")]):
            return self.engine.embed(request, self.display.progress)

    def write(self, sheet: "Image", name: str, pictures: "Sequence[Picture]") -> "tuple[Path | None, list[Path]]":
        """Write the sheet, and with --layout also the pictures, each with its recipe; say where both are.

        `name` is the sheet's, without a suffix. The sheet's path is None where it went to standard output, or where
        only single pictures were asked for. Raises BadOutput, DiskFull.
        """
        from dallecli.cli.destination import put
        from dallecli.cli.display import emit
        from dallecli.history import History
        from dallecli.pictures.formats import FORMATS
        from dallecli.pictures.picture import encode

        output, suffix = self.output, FORMATS[self.output.format]
        singles = [
            path
            for k, picture in enumerate(pictures if output.layout != "grid" else [])
            if (path := put(output.destination, f"{name}-{k + 1:02}{suffix}", self._encoded(picture))) is not None
        ]
        path = None
        if output.layout != "files":
            data = encode(sheet, output.format, None)
            path = put(output.destination, f"{name}{suffix}", data)
            if path is None:
                emit(data)
        with closing(History(on=not self.reporting.no_history)) as history:
            for written, of in [*zip(singles, pictures, strict=False), *([(path, pictures[0])] if path else [])]:
                history.remember(written, of.recipe, of.recipe.seed)
        return path, singles

    def finish(self, began: float, sheet: "Image", paths: "Sequence[Path]", recipes: "Sequence[Recipe]") -> None:
        """Say how long it took and where the results are, and show them where that is asked for."""
        from dallecli.cli.painting import summary
        from dallecli.cli.viewer import show_in_viewer

        places: list[Path | None] = [*paths] if paths else [None]
        self.display.say(summary(recipes, places, time.perf_counter() - began))
        if self.reporting.preview:
            self.display.preview(sheet)
        if self.reporting.open:
            show_in_viewer(places, self.display)

    def _encoded(self, picture: "Picture") -> bytes:
        return picture.encode(self.output.format, metadata=self.output.metadata)


def source_of(picture: "Picture", name: str) -> "Source":
    """A painted picture as an input."""
    import hashlib
    import io

    from dallecli.source import Source

    file = io.BytesIO()
    picture.image.save(file, "PNG", compress_level=1)
    data = file.getvalue()
    return Source(kind="picture", name=name, sha256=hashlib.sha256(data).hexdigest(), data=data)


def known_kinds(model: str) -> dict[str, list[str]] | None:
    """What a model knows, by kind, as it is said in a sentence; None where it does not say so.

    Raises what finding a model does.
    """
    from dallecli.weights.known import read_words
    from dallecli.weights.registry import find, locate

    words = read_words(locate(find(model)).path)
    if words is None:
        return None
    kinds = {kind: list(phrases) for kind, phrases in words.kinds.items()}
    # A place is said with its preposition, which is among its other names.
    places = words.kinds.get("places", {})
    return kinds | {"places": [others[0] if others else f"in {name}" for name, others in places.items()]}

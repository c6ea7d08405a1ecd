"""`dalle inpaint --show-mask`: what would be repainted, tinted."""

from pathlib import Path

from dallecli.cli.destination import probe_destination, put
from dallecli.cli.display import Display, emit, emit_json, emit_line
from dallecli.cli.options import PaintingOptions
from dallecli.cli.output import Output
from dallecli.cli.viewer import show_in_viewer
from dallecli.pictures.canvas import lay_out
from dallecli.pictures.formats import FORMATS
from dallecli.pictures.masks import overlay, share
from dallecli.pictures.names import slug
from dallecli.pictures.picture import encode
from dallecli.safe import safe
from dallecli.tasks.inpaint import Inpaint


def write_overlay(request: Inpaint, output: Output, painting: PaintingOptions) -> None:
    """Write the picture with what would be repainted tinted, and say how much that is."""
    reporting = painting.reporting
    display = Display(quiet=reporting.quiet)
    recipe = painting.choose_engine().resolve(request)
    for warning in recipe.warnings:
        display.warn(safe(warning))
    layout = lay_out(request.image, request.mask, request.expand, recipe.size.width)
    canvas, squares = layout.canvas, [list(patch.area) for patch in layout.patches]
    image, repainted = overlay(canvas.image, canvas.hole), share(canvas.hole)
    data = encode(image, output.format, None)
    probe_destination(output.destination, len(data), display)
    path = put(output.destination, f"{slug(Path(request.image.name).stem)}-mask{FORMATS[output.format]}", data)
    display.say(
        f"{repainted:.1%} of {image.width} x {image.height} pixels would be repainted, in {len(squares)}"
        f" {'square' if len(squares) == 1 else 'squares'}"
    )
    if path is None:
        emit(data)
    elif reporting.json:
        facts = {"width": image.width, "height": image.height, "share": round(repainted, 6), "squares": squares}
        emit_json({"path": str(path), **facts})
    else:
        emit_line(str(path))
    if reporting.preview:
        display.preview(image)
    if reporting.open:
        show_in_viewer([path], display)

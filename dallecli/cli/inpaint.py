"""`dalle inpaint`: a part of a picture painted anew, the rest kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from dallecli.cli import options

if TYPE_CHECKING:
    from dallecli.cli.output import Output
    from dallecli.cli.run import Run
    from dallecli.tasks.inpaint import Inpaint


def inpaint(
    image: options.Picture,
    mask: options.MaskOption = None,
    mask_mode: options.MaskModeOption = "white",
    invert_mask: options.InvertMask = False,
    expand: options.Expand = None,
    show_mask: options.ShowMask = False,
    prompt: options.Prompt = None,
    negative: options.Negative = None,
    num: options.Num = 1,
    seed: options.Seed = None,
    size: options.Size = None,
    strict: options.Strict = False,
    model: options.Model = "starter",
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    memory: options.Memory = "auto",
    batch: options.BatchSize = None,
    compile: options.Compile = False,
    fast: options.Fast = None,
    steps: options.Steps = None,
    prior_steps: options.PriorSteps = None,
    upsampler_steps: options.UpsamplerSteps = None,
    guidance: options.Guidance = None,
    prior_guidance: options.PriorGuidance = None,
    sampler: options.Sampler = None,
    prior_candidates: options.PriorCandidates = None,
    resample: options.Resample = None,
    output: options.OutputFile = None,
    out: options.OutputFolder = None,
    layout: options.LayoutOption = "grid",
    format: options.FormatOption = None,
    no_metadata: options.NoMetadata = False,
    force: options.Force = False,
    preview: options.Preview = False,
    no_history: options.NoHistory = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Paint a part of a picture anew.

    All other pixels stay what they are, and the result is as large as the picture. What is repainted is what a mask
    shows white, what lies in a box, or what is transparent; with --expand also what is added around.

    \b
    Examples:
      dalle inpaint room.png --mask 20,150,120,90 --prompt "a red couch"
      dalle inpaint room.png --mask mask.png --show-mask
      dalle inpaint cutout.png --prompt "a beach" -n 4
      dalle inpaint room.png --expand left=64,right=64
    """
    from dallecli.arguments import check_one_stdin, read_files, read_mask
    from dallecli.cli.output import plan
    from dallecli.cli.painting import paint_all
    from dallecli.cli.run import Run
    from dallecli.tasks.inpaint import Inpaint
    from dallecli.tasks.mask import read_edges
    from dallecli.tasks.stages import Dials

    run = Run(memory, batch, compile, preview=preview, as_json=json, quiet=quiet, history=not no_history)
    check_one_stdin([image], mask)
    edges = read_edges(expand)
    (source,) = read_files([image])
    request = Inpaint(
        image=source,
        mask=read_mask(mask if mask is not None else [], mask_mode, invert=invert_mask, expand=edges),
        prompt=prompt,
        negative=negative,
        resample=resample,
        expand=edges,
        model=model,
        seed=seed,
        count=num,
        size=size,
        prior=Dials(steps=prior_steps, guidance=prior_guidance),
        decoder=Dials(sampler=sampler, steps=steps, guidance=guidance),
        upsampler=Dials(steps=upsampler_steps),
        effort=options.effort(fast),
        prior_candidates=prior_candidates,
        strict=strict,
        device=device,
        dtype=dtype,
    )
    target = plan(
        file=output,
        folder=out,
        layout=layout,
        format=format,
        metadata=not no_metadata,
        force=force,
        pictures=1 if show_mask else num,
        as_json=json,
    )
    if show_mask:
        _show_mask(request, target, run)
    else:
        paint_all([request], target, run)


def _show_mask(request: "Inpaint", output: "Output", run: "Run") -> None:
    """Write the picture with what would be repainted tinted, and say how much that is."""
    from dallecli.cli.display import Display, emit, emit_json, emit_line
    from dallecli.cli.output import put
    from dallecli.cli.settings import choose_engine
    from dallecli.pictures.canvas import lay_out
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.masks import overlay, share
    from dallecli.pictures.names import slug
    from dallecli.pictures.picture import encode
    from dallecli.safe import safe

    display = Display(quiet=run.quiet)
    recipe = choose_engine().resolve(request)
    for warning in recipe.warnings:
        display.warn(safe(warning))
    layout = lay_out(request.image, request.mask, request.expand, recipe.size)
    canvas, squares = layout.canvas, [list(patch.area) for patch in layout.patches]
    image, repainted = overlay(canvas.image, canvas.hole), share(canvas.hole)
    data = encode(image, output.format, None)
    path = put(output.place, f"{slug(Path(request.image.name).stem)}-mask{FORMATS[output.format]}", data)
    display.say(
        f"{repainted:.1%} of {image.width} x {image.height} pixels would be repainted, in {len(squares)}"
        f" {'square' if len(squares) == 1 else 'squares'}"
    )
    if path is None:
        emit(data)
    elif run.as_json:
        facts = {"width": image.width, "height": image.height, "share": round(repainted, 6), "squares": squares}
        emit_json({"path": str(path), **facts})
    else:
        emit_line(str(path))
    if run.preview:
        display.preview(image)

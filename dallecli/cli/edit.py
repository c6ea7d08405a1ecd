"""`dalle edit`: a picture moved along the difference of two sentences."""

from dallecli.cli import options


def edit(
    image: options.Image,
    before: options.Before,
    after: options.After,
    strength: options.Strength = None,
    sweep: options.Sweep = None,
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
    upsampler_steps: options.UpsamplerSteps = None,
    inversion_steps: options.InversionSteps = None,
    guidance: options.Guidance = None,
    animate: options.Animate = None,
    fps: options.Fps = 8.0,
    bounce: options.Bounce = False,
    hold: options.Hold = 0.0,
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
    """Change a picture by the difference of two sentences.

    The picture's own noise is kept, so what the sentences don't speak of changes little. --sweep paints the way there
    as one strip; take the strength that you like best from it.

    \b
    Examples:
      dalle edit cat.jpg --from "a cat" --to "a dog"
      dalle edit room.png --from "a room by day" --to "a room at night" --sweep 6
      dalle edit cat.jpg --from "a cat" --to "a tiger" --sweep 24 --bounce -o tiger.gif
    """
    from dallecli.arguments import read_files
    from dallecli.cli.output import plan
    from dallecli.cli.painting import paint_all
    from dallecli.cli.run import Run
    from dallecli.recipe import Motion
    from dallecli.tasks.edit import Edit
    from dallecli.tasks.stages import Dials

    run = Run(memory, batch, compile, preview=preview, as_json=json, quiet=quiet, history=not no_history)
    (source,) = read_files([image])
    request = Edit(
        image=source,
        before=before,
        after=after,
        strength=strength,
        sweep=sweep,
        model=model,
        seed=seed,
        size=size,
        decoder=Dials(steps=steps, guidance=guidance),
        upsampler=Dials(steps=upsampler_steps),
        effort=options.effort(fast),
        inverting=Dials(steps=inversion_steps),
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
        pictures=sweep if sweep is not None else 1,
        animated=animate,
        motion=Motion(fps=fps, bounce=bounce, hold=hold),
        as_json=json,
    )
    paint_all([request], target, run)

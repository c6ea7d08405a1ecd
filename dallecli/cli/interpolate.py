"""`dalle interpolate`: what lies between pictures, or between sentences."""

from dallecli.cli import options


def interpolate(
    ends: options.Ends,
    frames: options.Frames = None,
    at: options.At = None,
    weights: options.Weights = None,
    noise: options.NoiseOption = "fixed",
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
    inversion_steps: options.InversionSteps = None,
    guidance: options.Guidance = None,
    prior_guidance: options.PriorGuidance = None,
    sampler: options.Sampler = None,
    prior_candidates: options.PriorCandidates = None,
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
    """Paint what lies between pictures or sentences.

    Both may be mixed: an argument is a file if there is one of this name, else a sentence. Writes the frames as one
    strip, or as an animation if the name in -o ends in .gif or .mp4.

    \b
    Examples:
      dalle interpolate cat.jpg dog.jpg
      dalle interpolate "a red apple" "a green apple" --frames 24 --bounce -o apples.gif
      dalle interpolate cat.jpg "a castle" --at 0.4 -n 4
      dalle interpolate cat.jpg dog.jpg fox.jpg --weights 2,1,1
      dalle interpolate cat.jpg dog.jpg --noise inverted --animate mp4
    """
    from dallecli.arguments import read_ends, read_weights
    from dallecli.cli.output import plan
    from dallecli.cli.painting import paint_all
    from dallecli.cli.run import Run
    from dallecli.recipe import Motion
    from dallecli.tasks.interpolate import FRAMES, Interpolate
    from dallecli.tasks.stages import Dials

    run = Run(memory, batch, compile, preview=preview, as_json=json, quiet=quiet, history=not no_history)
    shares = read_weights(weights)
    positions = tuple(at) if at else None
    request = Interpolate(
        ends=read_ends(ends),
        frames=FRAMES if frames is None and positions is None and shares is None else frames,
        positions=positions,
        weights=shares,
        noise=noise,
        model=model,
        seed=seed,
        count=num,
        size=size,
        prior=Dials(steps=prior_steps, guidance=prior_guidance),
        decoder=Dials(sampler=sampler, steps=steps, guidance=guidance),
        upsampler=Dials(steps=upsampler_steps),
        effort=options.effort(fast),
        inverting=Dials(steps=inversion_steps),
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
        pictures=max(num, request.frames if request.frames is not None else len(at) if at else 1),
        animated=animate,
        motion=Motion(fps=fps, bounce=bounce, hold=hold),
        as_json=json,
    )
    paint_all([request], target, run)

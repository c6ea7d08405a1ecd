"""`dalle vary`: more pictures like one that is there."""

from dallecli.cli import options


def vary(
    images: options.Images,
    prompt: options.Prompt = None,
    fidelity: options.Fidelity = None,
    num: options.Num = 1,
    seed: options.Seed = None,
    size: options.Size = None,
    strict: options.Strict = False,
    model: options.Model = "starter",
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    memory: options.Memory = "auto",
    steps: options.Steps = None,
    upsampler_steps: options.UpsamplerSteps = None,
    inversion_steps: options.InversionSteps = None,
    guidance: options.Guidance = None,
    sampler: options.Sampler = None,
    output: options.OutputFile = None,
    out: options.OutputFolder = None,
    layout: options.LayoutOption = "grid",
    format: options.FormatOption = None,
    no_metadata: options.NoMetadata = False,
    force: options.Force = False,
    preview: options.Preview = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Paint more pictures like one that is there.

    The same subject, seen anew: the pictures have what CLIP sees in the original, and the rest is made up. Several of
    them become one sheet with the original in its first corner. --fidelity starts from the picture's own noise, and at
    1 nothing changes.

    \b
    Examples:
      dalle vary cat.jpg -n 5
      dalle vary cat.jpg --fidelity 0.8
      dalle embed cat.jpg --minus "a cat" --plus "a dog" -o - | dalle vary -
    """
    from dallecli.arguments import read_files
    from dallecli.cli.output import plan
    from dallecli.cli.painting import paint_all
    from dallecli.request import Stage, Vary

    requests = [
        Vary(
            image=image,
            prompt=prompt,
            fidelity=fidelity,
            model=model,
            seed=seed,
            count=num,
            size=size,
            decoder=Stage(sampler=sampler, steps=steps, guidance=guidance),
            upsampler=Stage(steps=upsampler_steps),
            inverting=Stage(steps=inversion_steps),
            strict=strict,
            device=device,
            dtype=dtype,
        )
        for image in read_files(images)
    ]
    target = plan(
        file=output,
        folder=out,
        layout=layout,
        format=format,
        metadata=not no_metadata,
        force=force,
        pictures=num,
        results=len(requests),
        noun="pictures",
        as_json=json,
    )
    paint_all(requests, target, memory=memory, preview=preview, as_json=json, quiet=quiet)

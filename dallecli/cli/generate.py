"""`dalle generate`: sentences in, pictures out."""

from dallecli.cli import options


def generate(
    prompts: options.Prompts = None,
    num: options.Num = 1,
    best_of: options.BestOf = None,
    seed: options.Seed = None,
    size: options.Size = None,
    strict: options.Strict = False,
    model: options.Model = "starter",
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    memory: options.Memory = "auto",
    steps: options.Steps = None,
    prior_steps: options.PriorSteps = None,
    upsampler_steps: options.UpsamplerSteps = None,
    guidance: options.Guidance = None,
    prior_guidance: options.PriorGuidance = None,
    sampler: options.Sampler = None,
    prior_candidates: options.PriorCandidates = None,
    output: options.OutputFile = None,
    out: options.OutputFolder = None,
    layout: options.LayoutOption = "grid",
    format: options.FormatOption = None,
    no_metadata: options.NoMetadata = False,
    force: options.Force = False,
    preview: options.Preview = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Paint pictures of a sentence.

    Prints the path of every file it wrote. Several pictures of one prompt become one sheet; picture k of seed s is the
    picture of seed s + k.

    \b
    Examples:
      dalle generate "a red car at the beach"
      dalle generate "a red apple" "a blue apple" -n 4 --seed 7 --layout files
      dalle generate "a dog on a chair" -n 2 --best-of 16
      echo "a castle in the forest" | dalle generate -o - > castle.png
    """
    from dallecli.cli.output import plan
    from dallecli.cli.painting import foretell, paint_all
    from dallecli.cli.prompts import read_prompts
    from dallecli.request import Generate, Stage

    texts = read_prompts(prompts if prompts is not None else [])
    requests = [
        Generate(
            prompt=text,
            model=model,
            seed=seed,
            count=num,
            best_of=best_of,
            size=size,
            prior=Stage(steps=prior_steps, guidance=prior_guidance),
            decoder=Stage(sampler=sampler, steps=steps, guidance=guidance),
            upsampler=Stage(steps=upsampler_steps),
            prior_candidates=prior_candidates,
            strict=strict,
            device=device,
            dtype=dtype,
        )
        for text in texts
    ]
    if dry_run:
        foretell(requests, memory=memory, as_json=json, quiet=quiet)
        return
    target = plan(
        file=output,
        folder=out,
        layout=layout,
        format=format,
        metadata=not no_metadata,
        force=force,
        pictures=num,
        results=len(texts),
        as_json=json,
    )
    paint_all(requests, target, memory=memory, preview=preview, as_json=json, quiet=quiet)

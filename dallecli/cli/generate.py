"""`dalle generate`: sentences in, pictures out."""

from dallecli.cli import options


def generate(
    prompts: options.Prompts = None,
    num: options.Num = 1,
    best_of: options.BestOf = None,
    negative: options.Negative = None,
    init: options.Init = None,
    strength: options.Strength = None,
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
    prompts_file: options.PromptsFile = None,
    matrix: options.Matrix = False,
    wildcards: options.WildcardsFolder = None,
    keep_going: options.KeepGoing = False,
    retry_failed: options.RetryFailed = False,
    share: options.Share = False,
    shard: options.Shard = None,
    x: options.AxisX = None,
    y: options.AxisY = None,
    output: options.OutputFile = None,
    out: options.OutputFolder = None,
    layout: options.LayoutOption = "grid",
    format: options.FormatOption = None,
    no_metadata: options.NoMetadata = False,
    force: options.Force = False,
    preview: options.Preview = False,
    dry_run: options.DryRun = False,
    no_history: options.NoHistory = False,
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
      dalle generate "a cat, oil on canvas" --init cat.jpg --strength 0.4
      dalle generate --prompts prompts.jsonl --out pictures
      dalle generate "a panda" --x steps=10,25,50 --y guidance=1,4,8
      echo "a castle in the forest" | dalle generate -o - > castle.png
    """
    from dallecli.arguments import check_one_stdin, read_files
    from dallecli.cli.output import plan
    from dallecli.cli.painting import paint_all
    from dallecli.cli.prompts import Manner, read_prompts
    from dallecli.cli.run import Run
    from dallecli.source import STDIN
    from dallecli.tasks.builder import build_request

    run = Run(
        memory, batch, compile, preview=preview, as_json=json, quiet=quiet, history=not no_history, dry_run=dry_run
    )
    manner = Manner(
        prompts=prompts_file,
        wildcards=wildcards,
        matrix=matrix,
        keep_going=keep_going,
        retry_failed=retry_failed,
        share=share,
        shard=shard,
    )
    values = {
        "n": num,
        "best_of": best_of,
        "negative": negative,
        "init": init,
        "strength": strength,
        "seed": seed,
        "size": size,
        "strict": strict,
        "model": model,
        "device": device,
        "dtype": dtype,
        "effort": options.effort(fast),
        "steps": steps,
        "prior_steps": prior_steps,
        "upsampler_steps": upsampler_steps,
        "guidance": guidance,
        "prior_guidance": prior_guidance,
        "sampler": sampler,
        "prior_candidates": prior_candidates,
    }
    if prompts_file is not None:
        from dallecli.cli.batch import check_no_others, paint_file

        check_no_others(prompts, output)
        paint_file(
            "generate",
            prompts_file,
            manner,
            values,
            run,
            out=out,
            format=format,
            metadata=not no_metadata,
            force=force,
        )
        return
    picture = None
    if init is not None:
        check_one_stdin([init], prompts if prompts else [STDIN])
        (picture,) = read_files([init])
    texts = read_prompts(prompts if prompts is not None else [])
    requests = [build_request("generate", {**values, "prompt": text, "init": picture}) for text in texts]
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
    if x is not None or y is not None:
        from dallecli.cli.axes import paint_axes, read_axis

        paint_axes(texts, read_axis(x), read_axis(y), values, target, run)
    else:
        paint_all(requests, target, run)

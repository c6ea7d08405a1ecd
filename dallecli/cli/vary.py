"""`dalle vary`: more pictures like one that is there."""

from dallecli.cli import options


def vary(
    images: options.Images = None,
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
    batch: options.BatchSize = None,
    compile: options.Compile = False,
    fast: options.Fast = None,
    steps: options.Steps = None,
    upsampler_steps: options.UpsamplerSteps = None,
    inversion_steps: options.InversionSteps = None,
    guidance: options.Guidance = None,
    sampler: options.Sampler = None,
    prompts_file: options.PromptsFile = None,
    matrix: options.Matrix = False,
    wildcards: options.WildcardsFolder = None,
    keep_going: options.KeepGoing = False,
    retry_failed: options.RetryFailed = False,
    share: options.Share = False,
    shard: options.Shard = None,
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
    """Paint more pictures like one that is there.

    The same subject, seen anew: the pictures have what CLIP sees in the original, and the rest is made up. Several of
    them become one sheet with the original in its first corner. --fidelity starts from the picture's own noise, and at
    1 nothing changes.

    \b
    Examples:
      dalle vary cat.jpg -n 5
      dalle vary cat.jpg --fidelity 0.8
      dalle vary --prompts photos.csv --out variations
      dalle embed cat.jpg --minus "a cat" --plus "a dog" -o - | dalle vary -
    """
    from dallecli.arguments import needed, read_files
    from dallecli.cli.output import plan
    from dallecli.cli.painting import paint_all
    from dallecli.cli.prompts import Manner
    from dallecli.cli.run import Run
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
        "prompt": prompt,
        "fidelity": fidelity,
        "n": num,
        "seed": seed,
        "size": size,
        "strict": strict,
        "model": model,
        "device": device,
        "dtype": dtype,
        "effort": options.effort(fast),
        "steps": steps,
        "upsampler_steps": upsampler_steps,
        "inversion_steps": inversion_steps,
        "guidance": guidance,
        "sampler": sampler,
    }
    if prompts_file is not None:
        from dallecli.cli.batch import check_no_others, paint_file

        check_no_others(images, output)
        paint_file(
            "vary",
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
    requests = [build_request("vary", {**values, "image": image}) for image in read_files(needed(images, "IMAGE"))]
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
    paint_all(requests, target, run)

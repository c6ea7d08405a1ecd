"""`dalle embed`: what CLIP sees or reads, as a small file that stands wherever a picture does."""

from dallecli.cli import options

ROOM = 2**16
"""Bytes that an embedding takes, generously; with its noise it may take more."""


def embed(
    things: options.Things,
    minus: options.Minus = None,
    plus: options.Plus = None,
    imagine: options.Imagine = False,
    invert: options.Invert = False,
    seed: options.Seed = None,
    size: options.Size = None,
    strict: options.Strict = False,
    model: options.Model = "starter",
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    memory: options.Memory = "auto",
    fast: options.Fast = None,
    prior_steps: options.PriorSteps = None,
    inversion_steps: options.InversionSteps = None,
    prior_guidance: options.PriorGuidance = None,
    prior_candidates: options.PriorCandidates = None,
    output: options.OutputFile = None,
    out: options.OutputFolder = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write what CLIP sees or reads to small files.

    Of pictures or sentences, one file each. Every command that takes a picture takes such a file, too, and -o - and -
    put them into pipes. --minus and --plus do arithmetic with meanings: all are brought to one length first, and the
    result is as long as what it started from.

    \b
    Examples:
      dalle embed cat.jpg -o cat.safetensors
      dalle embed cat.jpg --minus "a cat" --plus "a dog" -o - | dalle vary - -n 4
      dalle embed "a castle" --imagine -o - | dalle interpolate cat.jpg - --at 0.5
      dalle embed *.jpg --out embeddings
    """
    from dallecli.arguments import check_one_stdin, read_batches, read_files_or_words
    from dallecli.cli.display import Display, emit, emit_json, emit_line
    from dallecli.cli.output import place, probe_place, put
    from dallecli.cli.settings import choose_engine
    from dallecli.pictures.names import slug
    from dallecli.source import EMBEDDING_SUFFIX
    from dallecli.tasks.embed import Embed
    from dallecli.tasks.stages import Dials

    check_one_stdin(things, minus, plus)
    taken = tuple(read_files_or_words(minus if minus is not None else []))
    added = tuple(read_files_or_words(plus if plus is not None else []))
    where = place(
        file=output,
        folder=out,
        force=force,
        results=len(things),
        noun="inputs",
        as_json=json,
        redirected=f"x{EMBEDDING_SUFFIX}",
    )
    probe_place(where, ROOM * len(things))
    display, engine = Display(quiet=quiet), choose_engine(memory)
    for batch in read_batches(things):
        request = Embed(
            inputs=tuple(batch),
            minus=taken,
            plus=added,
            imagine=imagine,
            invert=invert,
            model=model,
            seed=seed,
            size=size,
            prior=Dials(steps=prior_steps, guidance=prior_guidance),
            prior_candidates=prior_candidates,
            effort=options.effort(fast),
            inverting=Dials(steps=inversion_steps),
            strict=strict,
            device=device,
            dtype=dtype,
        )
        with display.opening(model):
            found = engine.embed(request, display.progress)
        for embedded in found:
            data = embedded.encode()
            path = put(where, f"{slug(_stem(embedded.name))}{EMBEDDING_SUFFIX}", data)
            if path is None:
                emit(data)
            elif json:
                emit_json({"path": str(path), **embedded.facts()})
            else:
                emit_line(str(path))


def _stem(name: str) -> str:
    """A file's name without the suffix of a picture; sentences may hold dots that are none."""
    from dallecli.source import EMBEDDING_SUFFIX, PICTURE_SUFFIXES

    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in (*PICTURE_SUFFIXES, EMBEDDING_SUFFIX) else name

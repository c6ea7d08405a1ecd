"""Every option of the command line, declared once. Commands list these aliases and fold the values into a request.

The `rich_help_panel` of an option is the section of the help that it stands in (help.py); nothing here is markup.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

Layout = Literal["grid", "files", "both"]
Format = Literal["png", "jpeg", "webp"]
Dtype = Literal["fp32", "bf16", "fp16"]

PICTURES, MODEL, DIALS, OUTPUT, MANNERS = "Pictures", "Model", "Dials", "Output", "Manners"


def _model_names(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    from dallecli.weights.registry import registry

    return [name for name in registry() if name.startswith(incomplete)]


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="What to paint; each argument is one prompt. None, or -: read one from stdin.",
        show_default=False,
    ),
]
Num = Annotated[
    int, typer.Option("--num", "-n", metavar="N", help="Pictures of each prompt.", rich_help_panel=PICTURES)
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        "-s",
        metavar="N",
        help="Seed of the first picture; the next has the next. Random if not given.",
        rich_help_panel=PICTURES,
    ),
]
Size = Annotated[
    int | None,
    typer.Option("--size", metavar="PX", help="Side in pixels, one of the model's sizes.", rich_help_panel=PICTURES),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse a prompt that the model would not read to its end.", rich_help_panel=PICTURES
    ),
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|DIR",
        help="A name from `dalle models list`, or a folder.",
        envvar="DALLE_MODEL",
        autocompletion=_model_names,
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1 or mps. The best one if not given.",
        envvar="DALLE_DEVICE",
        rich_help_panel=MODEL,
    ),
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="Type of the numbers. The device's best if not given.", rich_help_panel=MODEL),
]

Steps = Annotated[
    int | None,
    typer.Option("--steps", "--decoder-steps", metavar="N", help="Steps of the decoder.", rich_help_panel=DIALS),
]
PriorSteps = Annotated[
    int | None, typer.Option("--prior-steps", metavar="N", help="Steps of the prior.", rich_help_panel=DIALS)
]
UpsamplerSteps = Annotated[
    int | None, typer.Option("--upsampler-steps", metavar="N", help="Steps of each upsampler.", rich_help_panel=DIALS)
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance", metavar="X", help="How hard the decoder follows the prompt; 1.0 is off.", rich_help_panel=DIALS
    ),
]
PriorGuidance = Annotated[
    float | None, typer.Option("--prior-guidance", metavar="X", help="The same for the prior.", rich_help_panel=DIALS)
]
Sampler = Annotated[
    str | None, typer.Option("--sampler", metavar="NAME", help="Sampler of the decoder.", rich_help_panel=DIALS)
]
PriorCandidates = Annotated[
    int | None,
    typer.Option(
        "--prior-candidates",
        metavar="N",
        help="Embeddings that the prior tries; the one nearest to the text is painted.",
        rich_help_panel=DIALS,
    ),
]

OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE|-", help="Write exactly this file; - is stdout.", rich_help_panel=OUTPUT
    ),
]
OutputFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for files that are named after prompt and seed. The current one if not given.",
        rich_help_panel=OUTPUT,
    ),
]
LayoutOption = Annotated[
    Layout,
    typer.Option(
        "--layout", help="Several pictures as one sheet, as files of their own, or both.", rich_help_panel=OUTPUT
    ),
]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="Format of the files. From the name in -o, else png.", rich_help_panel=OUTPUT),
]
NoMetadata = Annotated[
    bool, typer.Option("--no-metadata", help="Leave the recipe out of the files.", rich_help_panel=OUTPUT)
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace files that exist. Without it -o refuses, and other names get a number.",
        rich_help_panel=OUTPUT,
    ),
]
Preview = Annotated[bool, typer.Option("--preview", help="Draw the result in the terminal.", rich_help_panel=OUTPUT)]

Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON, one object a line; an error is one object on stderr.", rich_help_panel=MANNERS
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.", rich_help_panel=MANNERS)]
# The boundary in app.py looks for this one before anything is parsed, so that it also covers mistakes in options.
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=MANNERS)]

PictureFiles = Annotated[list[str], typer.Argument(metavar="FILE", help="PNG, JPEG or WebP files; - is stdin.")]
ModelName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A name from `dalle models list`, or a folder.", autocompletion=_model_names),
]

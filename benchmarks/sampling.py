"""What the starter's dials are worth: `python benchmarks/sampling.py`, which prints the table of docs/starter.md.

Each row changes one dial of the model's defaults. Pictures of pairs that no training scene shows, and of things in a
style, are judged at 64 px by the judge of `dalle train starter --stage judge`; the seconds are those of a whole picture
in a warm process, the median of three. `-n` sets the pictures of each kind (48), `--json FILE` keeps the figures, and
`--rows="as it is,--fast,--prior-guidance 4"` runs some rows only. The judge is in the state of `dalle train starter`
(`--state`).
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import measuring
import torch
from platformdirs import user_cache_path

from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials
from dallecli.training.machine import Machine
from dallecli.training.preset_file import load_preset
from dallecli.training.world.evaluate import evaluate
from dallecli.training.world.starter import Workshop

KINDS = ("pair", "style")
DEFAULTS = Generate(prompt="a car", model="starter", seed=0)
ROWS = {
    "as it is": DEFAULTS,
    "--fast": replace(DEFAULTS, effort="fast"),
    "--best": replace(DEFAULTS, effort="best"),
    "--guidance 1": replace(DEFAULTS, decoder=Dials(guidance=1.0)),
    "--guidance 2.5": replace(DEFAULTS, decoder=Dials(guidance=2.5)),
    "--guidance 4": replace(DEFAULTS, decoder=Dials(guidance=4.0)),
    "--prior-guidance 1.25": replace(DEFAULTS, prior=Dials(guidance=1.25)),
    "--prior-guidance 1.5": replace(DEFAULTS, prior=Dials(guidance=1.5)),
    "--prior-guidance 2": replace(DEFAULTS, prior=Dials(guidance=2.0)),
    "--prior-guidance 2 --prior-candidates 2": replace(DEFAULTS, prior=Dials(guidance=2.0), prior_candidates=2),
    "--prior-guidance 4": replace(DEFAULTS, prior=Dials(guidance=4.0)),
    "--prior-candidates 2": replace(DEFAULTS, prior_candidates=2),
    "--prior-candidates 4": replace(DEFAULTS, prior_candidates=4),
    "--prior-steps 10": replace(DEFAULTS, prior=Dials(steps=10)),
    "--steps 10": replace(DEFAULTS, decoder=Dials(steps=10)),
    "--steps 50": replace(DEFAULTS, decoder=Dials(steps=50)),
    "--sampler ddim": replace(DEFAULTS, decoder=Dials(sampler="ddim")),
    "--sampler dpm++ --steps 15": replace(DEFAULTS, decoder=Dials(sampler="dpm++", steps=15)),
    "--guidance-stop 0.5": replace(DEFAULTS, decoder=Dials(guidance_stop=0.5)),
    "--guidance-start 0.5": replace(DEFAULTS, decoder=Dials(guidance_start=0.5)),
    "--reuse 2": replace(DEFAULTS, decoder=Dials(reuse=2)),
    "--reuse 3": replace(DEFAULTS, decoder=Dials(reuse=3)),
    "--upsampler-reuse 2": replace(DEFAULTS, upsampler=Dials(reuse=2)),
    "--upsampler-steps 4": replace(DEFAULTS, upsampler=Dials(steps=4)),
    "--upsampler-steps 15": replace(DEFAULTS, upsampler=Dials(steps=15)),
}


def seconds(engine: LocalEngine, ask: Generate) -> list[float]:
    """How long a picture takes at full size when everything is loaded, three times."""
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        list(engine.paint(engine.resolve(ask), lambda _: None))
        taken.append(time.perf_counter() - began)
    return taken[1:]


def main() -> None:
    """Measure and print, row by row."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("-n", type=int, default=48)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--state", type=Path, default=user_cache_path("dalle-train"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = options.rows.split(",")
    for name in rows:
        if name not in ROWS:
            parser.error(f"no row is called {name!r}: {', '.join(ROWS)}")
    found: dict[str, Any] = {
        "table": "samplers",
        "machine": measuring.machine(torch.device("cpu")),
        "command": measuring.command_line("json", "state"),
        "pictures": options.n,
        "rows": {},
    }
    workshop = Workshop(load_preset("cpu"), options.state / "cpu", Machine(torch.device("cpu")))
    engine = LocalEngine()
    print("| | both of a pair | the style | its thing | seconds |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in rows:
        ask = replace(ROWS[name], model=options.model)
        judged = evaluate(workshop, ask, count=options.n, kinds=KINDS, references=False)
        shares = {part: judged[part] for part in ("pair_all_objects", "style_style", "style_objects")}
        taken = seconds(engine, ask)
        found["rows"][name] = {**shares, "seconds": taken}
        cells = " | ".join(f"{share:.1%}" for share in shares.values())
        print(f"| `{name}` | {cells} | {median(taken):.2f} |", flush=True)
    measuring.write(options.json, "samplers", found)


if __name__ == "__main__":
    main()

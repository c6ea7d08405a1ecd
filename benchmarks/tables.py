"""All tables of docs/benchmarks.md on this machine, by one command: `python benchmarks/tables.py`.

    python benchmarks/tables.py --name SERVER [--device cuda] [--only karlo,starter] [--whole]

Each table is a command of its own, printed before it runs; what one of them measured is kept in
docs/benchmarks/SERVER.json before the next begins, and the page is written at the end. One that fails is named, and the
others still run. On a CPU, `--whole` adds whole pictures of Karlo, also by kind of kernel, many minutes each in
float32; on a GPU they are there anyway, and so are batches of 16. `--folder` names the folder for models with random
weights, 13 GB (the platform's cache folder). `samplers` runs only where it is asked for by name: it needs the judge of
`dalle train starter`. What the benchmarks need beside the package is in its extra `test`.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from platformdirs import user_cache_path

from dallecli.devices import native_bf16

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "benchmarks"
ASKED_FOR = ("samplers",)
"""Tables that run only by name."""


def on_a_cpu(karlo: list[str], kandinsky: list[str], whole: bool) -> dict[str, list[list[str]]]:
    """The commands of each table, for a machine whose upsampler takes half a minute a step."""
    more = ["--whole"] if whole else []
    return {
        "startup": [["startup.py", *karlo]],
        "starter": [["starter.py", "--rounds", "3"]],
        "prompts": [["prompts.py"]],
        "karlo": [
            ["stages.py", "karlo", *karlo, *more],
            ["stages.py", "karlo", *karlo, "--dtype", "fp32", "--rounds", "2", *more],
        ],
        "kandinsky": [["stages.py", "kandinsky", *kandinsky]],
        "kernels": [
            ["kernels.py", "starter", "--dtype", "fp32"],
            *([["kernels.py", "karlo", *karlo]] if whole else []),
        ],
        "levers": [
            ["levers.py", "--dtype", kind, *(["--compile"] if shutil.which("c++") else [])]
            for kind in ("bf16", "fp32")
            if kind == "fp32" or native_bf16()
        ],
        "saving": [["saving.py", "--dtype", "bf16" if native_bf16() else "fp32"]],
        "int8": [["int8.py"]] if torch.cpu._is_vnni_supported() else [],
        "samplers": [["sampling.py"]],
        "server": [["server.py"]],
        "scale": [["scale.py"], ["scale.py", "--finished", "100000"]],
    }


def on_a_gpu(karlo: list[str], kandinsky: list[str], device: str) -> dict[str, list[list[str]]]:
    """The commands of each table, for a device that paints a picture in a second: more rounds, and batches."""
    place = ["--device", device, "--rounds", "5"]
    batch = ["--batch", "16"]
    return {
        "startup": [["startup.py", *karlo, "--device", device]],
        "starter": [["starter.py", "--device", device, "--dtype", "bf16"]],
        "karlo": [
            ["stages.py", "karlo", *karlo, *place, "--whole", "3", "--warm", "5"],
            ["stages.py", "karlo", *karlo, *place, *batch, "--warm", "3"],
            ["stages.py", "karlo", *karlo, *place, *batch, "--warm", "3", "--only", "", "--compile"],
        ],
        "kandinsky": [
            ["stages.py", "kandinsky", *kandinsky, *place],
            ["stages.py", "kandinsky", *kandinsky, *place, *batch],
        ],
        "kernels": [["kernels.py", "karlo", *karlo, "--device", device, *more] for more in ([], batch)],
        "samplers": [["sampling.py"]],
    }


def main() -> int:
    """Run the commands; how many of them failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--folder", type=Path, default=user_cache_path("dalle-benchmarks"))
    options = parser.parse_args()
    karlo, kandinsky = (["--folder", str(options.folder / f"{model}-bf16")] for model in ("karlo", "kandinsky"))
    if options.device == "cpu":
        tables = on_a_cpu(karlo, kandinsky, options.whole)
    else:
        tables = on_a_gpu(karlo, kandinsky, options.device)
    wanted = options.only.split(",") if options.only is not None else [name for name in tables if name not in ASKED_FOR]
    for name in wanted:
        if name not in tables:
            parser.error(f"no table is called {name}: {', '.join(tables)}")
    file = PAGES / f"{options.name}.json"
    failed = []
    for script, *words in (command for name in wanted for command in tables[name]):
        print(f"\n$ python benchmarks/{shlex.join([script, *words])}\n", flush=True)
        if subprocess.run([sys.executable, str(HERE / script), *words, "--json", str(file)]).returncode != 0:
            failed.append(script)
    if file.exists():
        subprocess.run([sys.executable, str(HERE / "report.py")], check=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())

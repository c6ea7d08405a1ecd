"""How dalle was installed, and so what its user types to add a package: the distribution is called dalle-shell.

On the package index, `dallecli` is another project; the package that Python imports is called that all the same.
"""

import shlex
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "preview": ("textual-image>=0.12",),
    "ray": ("ray>=2.52",),
    "serve": ("python-multipart>=0.0.34", "starlette>=1.6", "uvicorn>=0.54"),
    "train": ("accelerate>=1.10", "tensorboard>=2.21"),
    "video": ("av>=15.0",),
}
"""The packages that pyproject.toml lists under each extra. A hint names them and not the extra: they come from the
package index wherever dalle itself came from, and nothing that is installed is built again."""


def extra_command(extra: str) -> str:
    """The command that installs an extra for the interpreter that runs."""
    return install_command(*EXTRAS[extra])


def install_command(*requirements: str, upgrade: bool = False) -> str:
    """The command that installs packages for the interpreter that runs, which may not be that of the `pip` on the path.

    It is pipx's where pipx made the environment, since pipx alone keeps a list of what it holds; uv's where uv made it,
    without pip in it; else pip's.
    """
    own, python = Path(sys.prefix), shlex.quote(sys.executable)
    options = ["--upgrade"] if upgrade else []
    asked = shlex.join([*options, *requirements])
    if (own / "pipx_metadata.json").is_file():
        return f"pipx runpip {shlex.quote(own.name)} install {asked}" if upgrade else f"pipx inject {own.name} {asked}"
    if (own / "uv-receipt.toml").is_file() or find_spec("pip") is None:
        return f"uv pip install --python {python} {asked}"
    return f"{python} -m pip install {asked}"

"""Programs of others that speak the images API, unchanged, against our server; what each is asked to do is in scripts.

    python -m tests.server.clients [FOLDER]

makes a Python environment or a folder of Node modules for each client in FOLDER (in ~/.cache/dalle-clients if none is
named; about 1 GB), where they are not there yet, and runs the tests of all of them. It needs Node 20 or later and npm.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FOLDER: Final = "DALLE_CLIENTS"
"""The variable with the folder in which the clients are."""


@dataclass(frozen=True)
class Client:
    """A client: its packages, with their versions, and the scripts that it runs."""

    name: str
    packages: tuple[str, ...]
    scripts: str
    node: bool = False
    without: tuple[str, ...] = field(default=())
    """The scripts that are beyond it."""

    @property
    def folder(self) -> Path:
        return Path(os.environ[FOLDER]) / self.name

    @property
    def is_here(self) -> bool:
        """Whether it was installed, and with these versions."""
        note = self.folder / "packages.txt"
        return note.is_file() and note.read_text().split() == list(self.packages)

    def command(self, code: str) -> list[str]:
        """What runs a script."""
        if self.node:
            return ["node", "--input-type=module", "-e", code, "--"]
        return [str(self.folder / "bin" / "python"), "-c", code]


CLIENTS: Final = (
    Client("openai-3", ("openai==3.57.0",), "OPENAI"),
    Client("openai-1", ("openai==1.109.1",), "OPENAI"),
    Client("openai-0", ("openai==0.28.1",), "OPENAI_0"),
    Client("langchain", ("langchain-community==0.4.2", "openai==3.57.0"), "LANGCHAIN"),
    Client("litellm", ("litellm==1.108.7",), "LITELLM"),
    Client("openai-node", ("openai@6.49.0",), "NODE", node=True),
    Client(
        "ai",
        ("ai@6.0.326", "@ai-sdk/openai@3.0.141", "@ai-sdk/openai-compatible@2.0.92"),
        "AI",
        node=True,
    ),
)

"""What README and docs tell people to type works: every option exists, and the README's examples run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from dallecli.cli.app import build

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
    ROOT / "docs" / "reference" / "cli.md",
]


def _lines(page: Path) -> list[str]:
    """The lines in code blocks that call dalle, and the commands in backticks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    quoted = re.findall(r"`(dalle [^`\n]+)`", text)
    return [line for line in [*lines, *quoted] if re.search(r"(^|\| |/)dalle [a-z-]", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_exist_with_their_options(page):
    for line in _lines(page):
        call = re.split(r"\| |&& |; ", line)
        for part in [part for part in call if re.match(r"(\S*/)?dalle ", part)]:
            words = shlex.split(part, comments=True)[1:]
            command = get_command(build())
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            known = {name for param in command.params for name in param.opts} | {"-h", "--help"}
            if "train" not in part:
                known |= {"--install-completion"}
            given = {word.partition("=")[0] for word in words if re.fullmatch(r"-[a-zA-Z]|--[a-z-]+(=.*)?", word)}
            assert given <= known, f"{page.name}: {line}"


def test_the_examples_of_the_readme_run(tmp_path):
    wanted = [
        line for line in _lines(ROOT / "README.md") if re.match(r"(dalle (generate|show|models)|echo|mkdir)", line)
    ]
    runnable = [line for line in wanted if "jq" not in line and "./" not in line and "..." not in line]
    assert runnable
    python = f"{shlex.quote(sys.executable)} -m dallecli"
    script = "\n".join(["set -eu -o pipefail", f'dalle() {{ {python} "$@"; }}', *runnable])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DALLE_ENGINE": "fake", "DALLE_HOME": str(tmp_path / "home")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr

"""What README and docs say is so: options exist, the README's examples run, links and names of files lead somewhere."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from dallecli.cli.app import build

ROOT = Path(__file__).parents[1]
GUIDES = ("vary", "interpolate", "inpaint", "edit", "rank", "batch")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _lines(page: Path) -> list[str]:
    """The lines in code blocks that call dalle, and the commands in backticks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    quoted = re.findall(r"`(dalle [^`\n]+)`", text)
    return [line for line in [*lines, *quoted] if re.search(r"(^|\| |/)dalle [a-z-]", line)]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_in_the_docs_exist_with_their_options(page):
    dalle = get_command(build())
    for line in _lines(page):
        call = re.split(r"\| |&& |; ", line)
        for part in [part for part in call if re.match(r"(\S*/)?dalle ", part)]:
            words = shlex.split(part, comments=True)[1:]
            command = dalle
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            known = {name for param in command.params for name in param.opts} | {"-h", "--help"}
            if "train" not in part:
                known |= {"--install-completion", "--show-completion"}
            given = {word.partition("=")[0] for word in words if re.fullmatch(r"-[a-zA-Z]|--[a-z-]+(=.*)?", word)}
            assert given <= known, f"{page.name}: {line}"


def _examples(page: Path) -> list[str]:
    """The lines in a page's shell blocks that need no network, no hours, no program that is not here, and that end."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    missing = "" if shutil.which("jq") else "|jq"
    others = rf"\b(pip|pipx|uv|curl|dalle train|dalle serve|dalle gallery{missing})\b"
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if not re.search(others, line)]


def _run(examples: list[str], folder: Path) -> None:
    """Run examples in order in an empty folder: what one reads, an earlier one made."""
    (work := folder / "work").mkdir()
    assert len(examples) > 2
    python = f"{shlex.quote(sys.executable)} -m dallecli"
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -eux -o pipefail", f'dalle() {{ {python} "$@"; }}', *examples])],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DALLE_ENGINE": "fake", "DALLE_HOME": str(folder / "home")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "page", ["README", *(pytest.param(f"docs/guides/{verb}", marks=pytest.mark.slow) for verb in GUIDES)]
)
def test_the_examples_of_a_page_run_in_order(tmp_path, page):
    _run(_examples(ROOT / f"{page}.md"), tmp_path)


def test_the_starters_page_lists_the_words_that_the_starter_knows():
    text = (ROOT / "docs" / "starter.md").read_text(encoding="utf-8")
    rows = re.search(r"^\| kind \| words \|\n\| --- \| --- \|\n((?:\|.*\|\n)+)", text, flags=re.MULTILINE)
    assert rows is not None
    kinds = json.loads((ROOT / "dallecli" / "starter" / "words.json").read_text(encoding="utf-8"))
    said = {
        kind: ", ".join(f"{name} ({', '.join(also)})" if also else name for name, also in names.items())
        for kind, names in kinds.items()
    }
    assert rows[1].splitlines() == [f"| {kind} | {words} |" for kind, words in said.items()]


def _anchors(page: Path) -> set[str]:
    """The names of a page's headings as web pages of repositories make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{_name(page)}: {link}"
        assert not anchor or anchor in _anchors(target), f"{_name(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_file_of_the_code_that_a_page_names_is_there(page):
    rooms = "|".join(sorted(path.name for path in (ROOT / "dallecli").iterdir() if path.is_dir()))
    own = rf"(?:{rooms})/[\w/.]*|[a-z_]+\.py"
    for name in re.findall(
        rf"`((?:dallecli/)?(?:{own})|(?:tests|benchmarks)/[\w/.]+)`", page.read_text(encoding="utf-8")
    ):
        places = [ROOT / name, ROOT / "dallecli" / name]
        found = any(place.exists() for place in places) or ("/" not in name and any((ROOT / "dallecli").rglob(name)))
        assert found, f"{_name(page)}: {name}"


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    decisions = (ROOT / "docs" / "decisions" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs")
        named = decisions if name.parts[0] == "decisions" and name.stem != "index" else index
        link = name.name if named is decisions else name.as_posix()
        assert name.as_posix() == "index.md" or f"]({link}" in named, f"{name} is in no index"


def test_every_word_of_the_glossary_is_defined_where_it_says():
    glossary = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    entries = re.findall(r"\| `(\w+)` in `([\w/.]+)` \|$", glossary, flags=re.MULTILINE)
    assert len(entries) > 30
    for name, path in entries:
        tree = ast.parse((ROOT / "dallecli" / path).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        defined |= {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        assert name in defined, f"{path} defines no {name}"


def test_the_glossary_has_every_word_once():
    glossary = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    rows = re.findall(r"^\| ([^|`]+) \|", glossary, flags=re.MULTILINE)
    words = [word for row in rows for word in row.split(", ") if word not in ("word", "---")]
    assert len(words) == len(set(words))

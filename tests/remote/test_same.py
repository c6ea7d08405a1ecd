"""What a command makes does not depend on who computes: the same files, words and exit codes with a server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dallecli.cli.app import run
from dallecli.fake_engine import FakeEngine
from dallecli.source import words as source_of_words
from dallecli.tasks.builder import build_embed
from tests.remote.conftest import Dalle, fill, url
from tests.server.talking import ROOT, Talk, process

COMMANDS = {
    "generate": "generate|a red car|--seed|7|-n|3|--layout|both",
    "generate dials": "generate|a red car|--seed|7|--steps|5|--guidance|2|--prior-steps|4|--sampler|ddim|--size|64",
    "generate over a picture": "generate|a red car|--init|dog.jpg|--strength|0.4|--seed|3",
    "generate many": "generate|a red car|--seed|1|-n|40|--layout|files|--fast",
    "best-of": "generate|a red car|--best-of|9|-n|2|--seed|5|--json",
    "vary": "vary|cat.png|dog.jpg|--seed|2|-n|2",
    "vary with its own noise": "vary|cat.png|--fidelity|0.8|--seed|2",
    "interpolate": "interpolate|cat.png|a dog|dog.jpg|--frames|5|--seed|9|-o|way.gif",
    "interpolate one file twice": "interpolate|cat.png|../cat.png|--at|0.5|--seed|9",
    "interpolate weights": "interpolate|cat.png|a dog|--weights|1,3|--seed|9|-n|2",
    "inpaint": "inpaint|cat.png|--mask|mask.png|--mask|1,1,9,9|--invert-mask|--prompt|a hat|--expand|left=8|--seed|4",
    "show a mask": "inpaint|cat.png|--mask|mask.png|--show-mask|-o|shown.png",
    "edit": "edit|cat.png|--from|a cat|--to|a dog|--sweep|4|--seed|1",
    "embed": "embed|cat.png|a dog|--minus|a cat|--plus|dog.jpg|--invert|--json",
    "rank": "rank|cat.png|dog.jpg|a cat|a dog|--json",
    "a sheet": "generate|a red car|--x|steps=5,9|--y|guidance=1,4|--seed|3|--json",
    "json": "generate|a red car|a dog|--seed|7|--json",
    "standard output": "generate|a red car|--seed|7|-o|-",
    "a dry run": "generate|a red car|--seed|7|-n|4|--dry-run|--json",
    "a dry run of a file": "generate|--prompts|lines.jsonl|--dry-run|--seed|3",
    "pca": "probe|pca|cat.png|--fit|.|--components|1|--seed|3",
    "a long prompt": f"generate|{'word ' * 40}|--seed|3",
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_the_same_command_writes_the_same_bytes(words, dalle: Dalle, server: Talk, tmp_path: Path):
    fill(tmp_path)
    here, there = dalle(*words.split("|")), dalle(*words.split("|"), "--server", url(server))
    assert (there.code, there.said) == (here.code, here.said)
    assert here.code == 0, here.err
    assert there.files == here.files
    assert here.files or here.out


REFUSED = {
    "a sampler": "generate|a fox|--sampler|nope",
    "steps": "generate|a fox|--steps|5000",
    "a size": "generate|a fox|--size|77",
    "strict": f"generate|{'word ' * 40}|--strict",
    "a mask": "inpaint|cat.png|--mask|900,900,1,1",
    "no hole": "inpaint|cat.png|--mask-mode|alpha|--mask|mask.png",
    "an embedding of words": "vary|words.safetensors",
    "another space": "vary|../other.safetensors",
    "a task": "encode|cat.png|-m|starter",
    "a frame": "interpolate|cat.png|a dog|--at|1.5",
    "a broken picture": "vary|broken.png",
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_refused_in_the_same_words(words, dalle: Dalle, server: Talk, tmp_path: Path):
    words = words.replace("words.safetensors", str(tmp_path / "words.safetensors"))
    words = words.replace("broken.png", str(tmp_path / "broken.png"))
    fill(tmp_path)
    (tmp_path / "broken.png").write_bytes((tmp_path / "cat.png").read_bytes()[:200])
    request = build_embed({"model": "starter", "inputs": [source_of_words("a dog")]})
    data = FakeEngine().embed(request, lambda _: None)[0].encode()
    (tmp_path / "words.safetensors").write_bytes(data)
    (tmp_path / "other.safetensors").write_bytes(data.replace(b'"space":"fake"', b'"space":"ekaf"'))
    here, there = dalle(*words.split("|")), dalle(*words.split("|"), "--server", url(server))
    assert here.code == 2, here.err
    assert there.said == here.said
    assert (there.code, there.files) == (here.code, {})


def test_a_prompt_file_makes_the_same_folder_and_goes_on_where_it_was_stopped(dalle: Dalle, server: Talk):
    command = ("generate", "--prompts", "lines.jsonl", "--out", "pictures", "--seed", "5")
    here = dalle(*command)
    there = dalle(*command, "--server", url(server))

    def pictures(files):
        return {name: data for name, data in files.items() if name.endswith(".png")}

    assert (here.code, there.code) == (0, 0), there.err
    assert pictures(there.files) == pictures(here.files)
    assert len(pictures(there.files)) == 6

    def journal(files):
        lines = [json.loads(line) for line in files["pictures/journal.jsonl"].splitlines()]
        return [{**line, "mtime_ns": 0, "seconds": 0} for line in lines]

    assert journal(there.files) == journal(here.files)
    assert run([*command, "--server", url(server)]) == 0  # in the folder of the last one
    assert run(list(command)) == 0
    assert Path("pictures/journal.jsonl").read_bytes() == there.files["pictures/journal.jsonl"]


def test_a_picture_of_a_server_is_replayed_here_and_the_other_way_round(dalle: Dalle, server: Talk, tmp_path: Path):
    fill(tmp_path)
    for first, second in (((), ("--server", url(server))), (("--server", url(server)), ())):
        picture = next(iter(dalle("vary", "../cat.png", "--seed", "4", *first).files.values()))
        (tmp_path / "again.png").write_bytes(picture)
        result = dalle("replay", "../again.png", "-o", "new.png", *second)
        assert result.code == 0, result.err
        assert result.files["new.png"] == picture


@pytest.mark.parametrize("way", ["environment", "config", "option over both"])
def test_a_server_is_named_by_an_option_the_environment_or_the_config_file(
    way, dalle: Dalle, server: Talk, monkeypatch, tmp_path: Path
):
    nowhere = "http://127.0.0.1:9"
    if way == "environment":
        monkeypatch.setenv("DALLE_SERVER", url(server))
    else:
        (tmp_path / "home").mkdir(exist_ok=True)
        named = url(server) if way == "config" else nowhere
        (tmp_path / "home" / "config.toml").write_text(f'server = "{named}"\n')
    if way == "option over both":
        monkeypatch.setenv("DALLE_SERVER", nowhere)
    option = ["--server", f"{url(server)}/v1"] if way == "option over both" else []
    before = server.metric("dalle_images_total")
    assert dalle("generate", "a fox", "-q", *option).code == 0
    assert dalle("encode", "cat.png", "-m", "starter", *option).code == 2  # the fake engine has no codes
    assert server.metric("dalle_images_total") == before + 1
    for off in ("none", ""):
        assert dalle("generate", "a fox", "-q", "--server", off).code == 0
    assert server.metric("dalle_images_total") == before + 1


# With a model


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory):
    with process(tmp_path_factory.mktemp("starter"), engine="local", OMP_NUM_THREADS="1") as talk:
        yield talk


COMMAND_LINES = """
import json, sys
from dallecli.cli.app import run
for words in json.loads(sys.argv[1]):
    assert run(words) == 0, words
print(json.dumps(sorted({"torch", "transformers", "diffusers", "huggingface_hub"} & set(sys.modules))))
"""


@pytest.mark.long
def test_the_starter_paints_the_same_bytes_and_no_client_imports_torch(starter: Talk, tmp_path: Path):
    small = ["--size", "16", "--steps", "3", "--seed", "3"]
    commands = [
        ["generate", "a red car", *small, "-o", "car.png"],
        ["vary", "car.png", *small, "-o", "varied.png"],
        ["embed", "a red car", "-o", "car.safetensors"],
        ["encode", "car.png", "-m", "starter-1", "-o", "codes.safetensors"],
        ["decode", "codes.safetensors", "-m", "starter-1", "-o", "decoded.png"],
    ]
    imported = {}
    for where, more in (("here", []), ("there", ["--server", url(starter)])):
        (tmp_path / where).mkdir()
        lines = json.dumps([[*words, "-q", *more] for words in commands])
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DALLE_ENGINE": "local"}
        done = subprocess.run(
            [sys.executable, "-c", COMMAND_LINES, lines],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path / where,
            env=env,
        )
        assert done.returncode == 0, done.stderr
        imported[where] = json.loads(done.stdout.splitlines()[-1])
    assert "torch" in imported["here"]
    assert imported["there"] == []
    for words in commands:
        assert (tmp_path / "there" / words[-1]).read_bytes() == (tmp_path / "here" / words[-1]).read_bytes()

"""`dalle models`: the registry for people and for programs, and models on their way from a Hub on this machine."""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import shutil
import struct
import subprocess
import termios
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from hub import Hub
from safetensors.torch import load_file

from dallecli.cli.pulling import size
from dallecli.tasks.stages import written
from dallecli.weights.lock import cached, folder_path, read_lock
from dallecli.weights.registry import registry

from .conftest import Dalle, command, environment, on_terminal, process

pytestmark = pytest.mark.usefixtures("hub")

NAME = "hf:org/name"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that paints."""
    return oracle.write(tmp_path_factory.mktemp("models") / "tiny", oracle.SHAPES["karlo"])


def test_every_model_is_listed(dalle: Dalle):
    result = dalle("models", "list")
    assert (result.code, result.err) == (0, "")
    title, *rows = result.lines
    assert title.split() == ["NAME", "HERE", "SIZE", "PIXELS", "WHAT"]
    assert [row.split()[0] for row in rows] == list(registry())


def test_every_fact_is_in_the_json(dalle: Dalle):
    for facts, spec in zip(dalle("models", "list", "--json").objects, registry().values(), strict=True):
        assert facts["name"] == spec.name
        assert facts["licence"] == spec.licence
        assert (facts["sizes"], facts["largest"]) == (list(spec.sizes), spec.largest)
        assert facts["stages"] == {name: written(stage) for name, stage in spec.stages.items()}


def presence(dalle: Dalle) -> dict[str, str]:
    return {facts["name"]: facts["here"] for facts in dalle("models", "list", "--json").objects}


def test_a_model_in_the_hub_cache_is_noticed(dalle: Dalle):
    included = {"starter": "included", "starter-1": "included"}
    assert presence(dalle) == {**dict.fromkeys(registry(), "no"), **included, "mindalle": "own files"}
    (cached("kakaobrain/karlo-v1-alpha", "x").parents[1] / "snapshots" / "abc").mkdir(parents=True)
    assert presence(dalle)["karlo"] == "cached"


def test_a_model_is_pulled_listed_verified_used_and_removed(dalle: Dalle, monkeypatch, hub: Hub, model):
    commit = hub.add("org/name", model).commit
    result = dalle("models", "pull", NAME)
    assert (result.code, result.lines) == (0, [str(folder_path(NAME))])
    assert "from org/name" in result.err
    assert "licence: mit" in result.err
    assert len(result.err.splitlines()) == 2
    assert presence(dalle)[NAME] == "pulled"
    assert dalle("models", "path", NAME).lines == [str(folder_path(NAME))]
    assert dalle("models", "verify", NAME).lines == [f"{NAME}: good"]

    hub.heal()
    monkeypatch.setenv("DALLE_ENGINE", "local")
    fast = ("--steps", "2", "--prior-steps", "2", "--upsampler-steps", "2", "--device", "cpu", "--dtype", "fp32")
    result = dalle("generate", "a red cat", "-s", "7", "-m", NAME, *fast, "--json")
    assert (result.code, result.remarks) == (0, "")
    again = dalle("models", "pull", NAME, "--json").objects
    assert [(record["name"], record["commits"], record["fetched"]) for record in again] == [
        (NAME, {"org/name": commit}, 0)
    ]
    assert hub.requests == []

    result = dalle("models", "remove", NAME)
    assert result.code == 2
    assert "--yes" in result.err
    result = dalle("models", "remove", NAME, "--yes")
    assert (result.code, result.out) == (0, b"")
    assert "are free again" in result.err
    assert NAME not in presence(dalle)


def test_a_model_that_is_not_here_is_named_with_the_command_that_gets_it(dalle: Dalle, monkeypatch, hub: Hub, model):
    """In a pipe nobody is asked."""
    monkeypatch.setenv("DALLE_ENGINE", "local")
    hub.add("org/name", model)
    for arguments in (("generate", "a cat", "-m", NAME), ("models", "path", NAME), ("models", "verify", NAME)):
        result = dalle(*arguments)
        assert (result.code, result.out) == (3, b"")
        assert f"hint: dalle models pull {NAME}" in result.err.splitlines()
    assert hub.requests == []
    hint = json.loads(dalle("generate", "a cat", "-m", NAME, "--json").err)["hint"]
    assert dalle(*hint.split()[1:]).code == 0
    assert dalle("models", "path", NAME).code == 0


def answer(question: bytes, answer: bytes, *arguments: str, **changes: str) -> tuple[int, str]:
    """Run `dalle` on a terminal of its own, and type an answer once it has asked."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    running = subprocess.Popen(
        command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**changes)
    )
    os.close(theirs)
    received = b""
    asked = False
    with contextlib.suppress(OSError):
        while chunk := os.read(ours, 65536):
            received += chunk
            if question in received and not asked:
                asked = True
                os.write(ours, answer)
    os.close(ours)
    return running.wait(timeout=60), received.decode()


@pytest.mark.parametrize("said", ["y", "n"])
@pytest.mark.long
def test_somebody_at_a_terminal_is_asked_and_then_gets_the_picture_or_the_command(hub: Hub, model, said):
    hub.add("org/name", model)
    arguments = ["generate", "a cat", "-m", NAME, "--device", "cpu", "--dtype", "fp32", "-s", "1"]
    arguments += ["--steps", "2", "--prior-steps", "2", "--upsampler-steps", "2"]
    code, text = answer(b"[y/N]", said.encode() + b"\n", *arguments, DALLE_ENGINE="local")
    assert f"{NAME} is not on this machine." in text
    total = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    assert f"/org/name ({len([path for path in model.rglob('*') if path.is_file()])} files)" in text
    assert f"Fetch {size(total)} now (licence: mit)? [y/N]" in text
    if said == "y":
        assert (code, Path("a-cat-1.png").is_file()) == (0, True)
    else:
        assert (code, list(Path().iterdir())) == (3, [])
        assert not cached("org/name", "x").parent.exists()  # only listed: nothing was kept
        assert f"dalle models pull {NAME}" in text


@pytest.mark.long
def test_a_pull_in_a_terminal_shows_the_part_the_bytes_the_rate_and_the_time(hub: Hub, model):
    hub.add("org/name", model)
    hub.trouble("decoder/diffusion_pytorch_model.safetensors", pause=0.002)
    result = on_terminal("models", "pull", NAME)
    assert result.code == 0
    for shown in ("fetching decoder", "B/s", "MB", "0:0"):
        assert shown in result.err


def test_quiet_is_quiet(dalle: Dalle, hub: Hub, model):
    hub.add("org/name", model)
    result = dalle("models", "pull", NAME, "-q")
    assert (result.code, result.err) == (0, "")


def test_wrong_bytes_are_three_lines_code_3_and_the_next_pull_repairs(dalle: Dalle, hub: Hub, model):
    hub.add("org/name", model)
    hub.trouble("decoder/diffusion_pytorch_model.safetensors", flip=5000)
    result = dalle("models", "pull", NAME, "-q")
    assert (result.code, result.out, len(result.err.splitlines())) == (3, b"", 3)
    assert presence(dalle)[NAME] == "in part"
    assert f"dalle models pull {NAME}" in dalle("models", "list").out.decode()
    hub.heal()
    assert dalle("models", "pull", NAME).code == 0


def test_a_file_that_went_bad_is_found_put_aside_and_fetched_again(dalle: Dalle, hub: Hub, model):
    hub.add("org/name", model)
    dalle("models", "pull", NAME)
    blob = (folder_path(NAME) / "prior" / "diffusion_pytorch_model.safetensors").resolve()
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    result = dalle("models", "verify")
    assert (result.code, result.out) == (3, b"")
    assert f"dalle models pull {NAME}" in result.err
    assert dalle("models", "path", NAME).code == 3
    assert dalle("models", "pull", NAME).code == 0
    assert dalle("models", "verify").lines == [f"{NAME}: good"]
    assert blob.read_bytes() == data


def test_without_a_network_the_exit_code_is_4(dalle: Dalle, monkeypatch, hub: Hub, model):
    hub.add("org/name", model)
    result = process("models", "pull", NAME, HF_HUB_OFFLINE="1")
    assert (result.code, result.out, len(result.err.splitlines())) == (4, b"", 3)
    assert "HF_HUB_OFFLINE" in result.err
    assert hub.requests == []


def test_the_token_is_taken_from_the_environment_and_shown_to_nobody(dalle: Dalle, monkeypatch, hub: Hub, model):
    hub.add("org/name", model)
    hub.token = "hf_abcdef"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    wrong = dalle("models", "pull", NAME, "--debug")
    assert wrong.code == 2
    assert "hf_wrong" not in wrong.err + wrong.out.decode()
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    assert dalle("models", "pull", NAME).code == 0


def test_bytes_that_changed_since_the_pull_are_not_painted_with(dalle: Dalle, monkeypatch, hub: Hub, model):
    """One bit of one weight: the file is whole, its header good, its numbers finite."""
    hub.add("org/name", model)
    dalle("models", "pull", NAME)
    blob = (folder_path(NAME) / "prior" / "diffusion_pytorch_model.safetensors").resolve()
    data = blob.read_bytes()
    blob.write_bytes(data[:-4] + bytes([data[-4] ^ 1]) + data[-3:])
    monkeypatch.setenv("DALLE_ENGINE", "local")
    result = dalle("generate", "a cat", "-m", NAME, "--device", "cpu", "--dtype", "fp32")
    assert (result.code, result.out) == (3, b"")
    assert result.err.splitlines()[-1] == f"hint: dalle models pull {NAME}"
    dalle("models", "pull", NAME)
    assert blob.read_bytes() == data


def test_what_cannot_be_pulled_says_why(dalle: Dalle, model):
    for name, code, words in (
        ("starter", 2, "nothing to pull"),
        (str(model), 2, "nothing to pull"),
        ("kalro", 2, "did you mean karlo"),
        ("hf:nobody", 2, "not the name of a repository"),
        ("hf:no/body", 2, "there is no no/body"),
    ):
        result = dalle("models", "pull", name)
        assert (result.code, result.out) == (code, b""), name
        assert words in result.err
        assert len(result.err.splitlines()) <= 3


@pytest.mark.long
def test_a_folder_with_pickles_is_converted_and_then_paints(dalle: Dalle, tmp_path, model):
    pickled = shutil.copytree(model, tmp_path / "pickled")
    weights = pickled / "prior" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    refused = dalle("models", "path", str(pickled))
    assert dalle("models", "verify", str(pickled)).code == 3
    result = dalle("models", "convert", str(pickled), "safe")
    assert (result.code, result.lines) == (0, ["safe"])
    ours, theirs = (
        load_file(Path("safe/prior/diffusion_pytorch_model.safetensors")),
        load_file(model / "prior" / "diffusion_pytorch_model.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list(Path("safe").rglob("*.bin"))
    assert dalle("models", "verify", "./safe").lines == ["./safe: good, by its headers"]
    assert dalle("models", "convert", str(pickled), "safe").code == 2
    assert refused.code in (0, 3)


@pytest.mark.parametrize("name", ["nope", "starterr", "\x1b[31m"])
def test_the_path_of_an_unknown_model_is_an_error(dalle: Dalle, name):
    result = dalle("models", "path", name)
    assert (result.code, result.out) == (2, b"")
    assert "\x1b" not in result.err


def test_the_path_of_a_folder_that_is_no_model_is_an_error(dalle: Dalle):
    Path("empty").mkdir()
    result = dalle("models", "path", "./empty")
    assert (result.code, result.out) == (3, b"")


def sums(folder: Path) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "SHA256SUMS")
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  ./{file.relative_to(folder)}\n" for file in files)
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_the_starter_is_compared_with_its_recorded_hashes(dalle: Dalle):
    (record,) = dalle("models", "verify", "starter", "--json").objects
    assert (record["locked"], record["wrong"]) == (True, [])
    assert dalle("models", "verify", "starter").lines == ["starter: good"]
    folder = Path(record["path"])
    listed = {line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {f"./{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()}
    assert listed == there - {"./SHA256SUMS"}


def test_one_bit_of_the_starter_is_missed_by_its_headers_and_found_by_its_hashes(dalle: Dalle):
    starter = Path(dalle("models", "path", "starter").lines[0])
    shutil.copytree(starter, "mine")
    weights = Path("mine/decoder/diffusion_pytorch_model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 1
    weights.write_bytes(data)
    Path("mine/dalle.json").write_text(Path("mine/dalle.json").read_text() + "\n")
    result = dalle("models", "verify", "./mine")
    assert (result.code, result.out) == (3, b"")
    assert result.err.splitlines()[0] == "error: a file of ./mine is missing or wrong, and 1 more are"
    (record,) = dalle("models", "verify", "./mine", "--json").objects
    assert sorted(record["wrong"]) == ["dalle.json", "decoder/diffusion_pytorch_model.safetensors"]
    Path("mine/SHA256SUMS").unlink()
    assert dalle("models", "verify", "./mine").lines == ["./mine: good, by its headers"]
    sums(Path("mine"))
    assert dalle("models", "verify", "./mine").lines == ["./mine: good"]


@pytest.mark.parametrize("line", ["", "abc  x", "0" * 64 + "  ../x", "0" * 64 + "  /etc/passwd", "0" * 64])
def test_a_list_of_hashes_that_is_none_is_refused(dalle: Dalle, line: str):
    shutil.copytree(Path(dalle("models", "path", "starter").lines[0]), "mine")
    Path("mine/SHA256SUMS").write_text(line)
    result = dalle("models", "verify", "./mine")
    assert result.code == 3
    assert result.err.splitlines()[1].endswith("mine/SHA256SUMS")


TERMS = "https://huggingface.co/spaces/DeepFloyd/deepfloyd-if-license"
LICENCE = "DeepFloyd IF License Agreement: non-commercial research only"


def publish_if(hub: Hub, **settings: Any) -> int:
    """Publish the smallest DeepFloyd IF, in a few bytes that are none; how many of them a pull needs."""
    pulled = 0
    for part in registry()["if-m"].parts:
        files = {
            "model_index.json": b'{"_class_name": "IFPipeline"}',
            "README.md": b"no part",
            "text_encoder/model.safetensors": b"T5 again",
        }
        for name in part.names:
            if name == "text_encoder":
                weights = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
                weights += ["model.safetensors.index.json", "config.json"]
                files.pop("text_encoder/model.safetensors")
            else:
                weights = {
                    "unet": ["diffusion_pytorch_model.safetensors", "config.json"],
                    "tokenizer": ["spiece.model", "special_tokens_map.json", "tokenizer_config.json"],
                }.get(name, ["scheduler_config.json"])
            files |= {f"{name}/{file}": f"{part.repository} {name} {file}".encode() for file in weights}
        needed = [path for path in files if path == "model_index.json" or path.partition("/")[0] in part.names]
        pulled += sum(len(files[path]) for path in needed)
        hub.add(part.repository, files, **settings)
    return pulled


def test_a_licence_that_restricts_is_shown_and_has_to_be_accepted_before_a_byte_comes(dalle: Dalle, hub: Hub):
    needed = publish_if(hub)
    result = dalle("models", "pull", "if-m")
    assert (result.code, result.out, hub.body_bytes, read_lock("if-m")) == (2, b"", 0, None)
    shown, terms, error, where, hint = result.err.splitlines()
    assert shown.startswith("if-m: ") and "DeepFloyd/IF-I-M-v1.0, DeepFloyd/IF-II-M-v1.0" in shown
    assert terms == f"licence: {LICENCE}; its words are at {TERMS}"
    assert error.startswith("error: if-m is fetched only for those who accept its licence") and TERMS in where
    assert hint == "hint: read it; dalle models pull if-m --yes accepts it"
    result = dalle("models", "pull", "if-m", "--yes")
    assert result.code == 0, result.err
    assert LICENCE in result.err and TERMS in result.err
    assert hub.body_bytes == needed

    # What was accepted once is not asked for again, and nothing of the second repository's T5 came.
    shutil.rmtree(folder_path("if-m"))
    assert dalle("models", "pull", "if-m").code == 0
    folder = folder_path("if-m")
    assert (folder / "super_res" / "unet" / "config.json").read_text() == "DeepFloyd/IF-II-M-v1.0 unet config.json"
    assert (folder / "tokenizer" / "spiece.model").exists() and not (folder / "super_res" / "text_encoder").exists()


def test_a_restricting_licence_is_asked_for_with_a_repository_of_such_a_model_too(dalle: Dalle, hub: Hub):
    publish_if(hub)
    name = "hf:DeepFloyd/IF-I-M-v1.0"
    result = dalle("models", "pull", name)
    assert (result.code, read_lock(name)) == (2, None)
    assert f"{TERMS}" in result.err and f"dalle models pull {name} --yes" in result.err
    assert dalle("models", "pull", name, "--yes", "--quiet").code == 0
    assert (folder_path(name) / "unet" / "config.json").exists()


@pytest.mark.parametrize("said", ["y", "n"])
def test_somebody_at_a_terminal_is_asked_whether_the_licence_is_accepted(hub: Hub, said):
    publish_if(hub)
    code, text = answer(b"[y/N]", said.encode() + b"\n", "models", "pull", "if-m")
    assert f"Do you accept the licence of if-m (licence: {LICENCE}: {TERMS})?" in " ".join(text.split())
    assert code == (0 if said == "y" else 2)
    assert folder_path("if-m").is_dir() == (said == "y")
    if said == "n":
        assert "the licence was not accepted, and nothing was fetched" in text and hub.body_bytes == 0


def test_an_offer_of_a_model_with_a_restricting_licence_says_so(hub: Hub):
    publish_if(hub)
    arguments = ("generate", "a cat", "-m", "if-m", "--device", "cpu", "--dtype", "fp32")
    code, text = answer(b"[y/N]", b"n\n", *arguments, DALLE_ENGINE="local")
    assert (code, hub.body_bytes) == (3, 0)
    words = f"licence: {LICENCE}; its words are at {TERMS}, and whoever fetches it accepts them"
    assert words in " ".join(text.split())


def test_a_gated_repository_says_how_to_get_its_files(dalle: Dalle, monkeypatch, hub: Hub):
    publish_if(hub, gated=True)
    hub.token = "hf_secret"
    result = dalle("models", "pull", "if-m", "--yes")
    assert result.code == 4
    *_, error, where, hint = result.err.splitlines()
    assert error == "error: DeepFloyd/IF-I-M-v1.0 is available only to those who accept its terms"
    assert where == f"where: {hub.url}"
    accept = f"accept its terms at {hub.url}/DeepFloyd/IF-I-M-v1.0"
    assert hint == f"hint: {accept}, then log in with `hf auth login`, or set HF_TOKEN"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    result = dalle("models", "pull", "if-m")
    assert result.code == 0, result.err


def test_what_a_model_cannot_do_is_said_before_it_is_offered(hub: Hub):
    arguments = ["generate", "a cat", "-m", "sd-unclip"]
    result = on_terminal(*arguments, DALLE_ENGINE="local")
    assert (result.code, hub.requests) == (2, [])
    assert "sd-unclip cannot generate, and is not on this machine" in result.err
    assert "it can vary, interpolate, inpaint" in result.err and "[y/N]" not in result.err


def test_the_list_says_how_much_there_is_and_from_how_many_repositories(dalle: Dalle, hub: Hub, model):
    rows = {row.split()[0]: row for row in dalle("models", "list").lines}
    assert "  about 14.9 GB from 2 repositories  " in rows["karlo"]
    hub.add("org/name", model)
    assert dalle("models", "pull", NAME).code == 0
    (facts,) = [facts for facts in dalle("models", "list", "--json").objects if facts["name"] == NAME]
    assert facts["bytes"] == sum(path.stat().st_size for path in model.rglob("*") if path.is_file())

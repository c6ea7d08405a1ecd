"""Containers and odd environments: no home, no names, closed and full streams, variables that hold anything."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Result, command, environment, process

NOBODY = "import pwd\ndef unknown(number):\n    raise KeyError(number)\npwd.getpwuid = unknown\n"
"""What Python is told of a process's user in a container that knows no such user."""


def without_home(folder: Path, *arguments: str) -> Result:
    """Run `dalle` as a user whom the system does not know, without HOME."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(NOBODY, encoding="utf-8")
    changed = environment()
    changed = {
        name: value for name, value in changed.items() if name not in ("HOME", "DALLE_HOME", "HF_HOME", "HF_HUB_CACHE")
    }
    changed = {name: value for name, value in changed.items() if not name.startswith("XDG_")}
    changed["PYTHONPATH"] = f"{folder}{os.pathsep}{changed['PYTHONPATH']}"
    done = subprocess.run(command(*arguments), capture_output=True, env=changed, timeout=120)
    return Result(done.returncode, done.stdout, done.stderr.decode())


def shell(line: str, *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell, in which `dalle` is this one."""
    text = f'dalle() {{ "{sys.executable}" -m dallecli "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, env=env if env is not None else environment(), timeout=120
    )


def test_without_a_home_pictures_are_painted_and_it_is_said_once(tmp_path):
    done = without_home(tmp_path / "site", "generate", "a fox", "a car", "--size", "16")
    assert done.code == 0
    assert len(done.lines) == 2
    assert all(Path(line).is_file() for line in done.lines)
    assert done.err.count("this user has no home folder") == 1
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "line",
    [
        ("config", "where"),
        ("config", "set", "steps", "5"),
        ("history",),
        ("history", "--clear"),
        ("models", "pull", "hf:nobody/nothing"),
    ],
)
def test_without_a_home_what_needs_one_says_so(tmp_path, line):
    done = without_home(tmp_path / "site", *line)
    assert done.code == 2
    assert "this user has no home folder" in done.err
    assert "hint: set " in done.err
    assert not Path("~").exists()


def test_without_a_home_the_doctor_and_the_settings_answer(tmp_path):
    assert without_home(tmp_path / "site", "config", "get").code == 0
    found = without_home(tmp_path / "site", "doctor", "--model", "starter")
    assert found.code == 0
    assert "there is no place for a config file" in found.out.decode()


@pytest.mark.parametrize(
    "line", ["--help", "--version", "", "generate --help", "--show-completion bash", "models list", "history"]
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_standard_output_is_an_error_in_words(line):
    done = shell(f"dalle {line} > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_standard_error_that_takes_nothing_does_not_change_the_exit_code(to):
    assert shell(f"dalle show nothing.png {to}").returncode == 2
    assert shell(f"dalle generate fox --size 16 -o fox.png --force {to}").returncode == 0


@pytest.mark.parametrize("value", ["", "rubbish", "complete_bash", "complete_zsh", "source_rubbish", "_"])
def test_the_variable_of_completion_alone_is_no_question(value):
    done = process("--version", _DALLE_COMPLETE=value)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(b"dalle ")


def test_the_question_of_a_shell_is_answered():
    done = process(_DALLE_COMPLETE="complete_bash", COMP_WORDS="dalle gen", COMP_CWORD="1")
    assert done.lines == ["generate"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://localhost:1"),
        ("HTTPS_PROXY", "::::"),
        ("HTTPS_PROXY", "ht!tp://[::"),
        ("SSL_CERT_FILE", "/nonexistent"),
    ],
)
def test_proxies_and_certificates_that_cannot_be_used_are_named(tmp_path, name, value):
    done = process("models", "pull", "karlo", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="0", **{name: value})
    assert done.code == 4
    assert "no connection can be set up as the environment says" in done.err
    assert "HTTPS_PROXY" in done.err


def test_a_token_with_other_characters_is_named_and_not_shown(tmp_path):
    done = process("models", "pull", "karlo", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="0", HF_TOKEN="hf_ü")
    assert done.code == 4
    assert "the token of the Hub holds characters" in done.err
    assert "hf_" not in done.err


def test_a_number_of_the_hub_that_is_none_is_named(tmp_path):
    done = process("models", "pull", "karlo", HF_HOME=str(tmp_path / "hf"), HF_HUB_ETAG_TIMEOUT="soon")
    assert done.code == 2
    assert "HF_HUB_ETAG_TIMEOUT" in done.err


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_threads_in_thousands_are_refused(name):
    done = process("generate", "a fox", "--dry-run", DALLE_ENGINE="local", **{name: "100000"})
    assert done.code == 2
    assert f"{name} asks for 100000 threads" in done.err


@pytest.mark.parametrize(("variable", "value"), [("ONEDNN_MAX_CPU_ISA", "AVX2"), ("ATEN_CPU_CAPABILITY", "default")])
@pytest.mark.long
def test_where_instructions_are_forbidden_the_number_type_does_not_need_them(variable, value):
    done = process("doctor", "--json", "--device", "cpu", DALLE_ENGINE="local", **{variable: value})
    assert done.objects[0]["placement"]["dtype"] == "fp32"


@pytest.mark.parametrize(("variable", "value"), [("ATEN_CPU_CAPABILITY", "rubbish"), ("ATEN_CPU_CAPABILITY", "\udcff")])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the values are those of x86")
@pytest.mark.long
def test_instructions_that_torch_does_not_know_are_refused(variable, value):
    done = process("generate", "a fox", "--size", "16", DALLE_ENGINE="local", **{variable: value})
    assert done.code == 2
    assert f"{variable} is {value!r}" in done.err
    assert "one of default, avx2, avx512" in done.err


@pytest.mark.parametrize("bytes_of_memory", [100_000, 200_000])
def test_a_library_that_does_not_fit_into_memory_is_an_error_in_words(bytes_of_memory):
    done = shell(
        f"ulimit -v {bytes_of_memory}; dalle generate 'a fox' --size 16", env=environment(DALLE_ENGINE="local")
    )
    assert done.returncode == 5
    assert "mistake" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (("models", "pull", "\udcff"), 2, "no model is called"),
        (("models", "verify", "\udcff"), 2, "no model is called"),
        (("models", "remove", "\udcff"), 2, "no model is called"),
        (("config", "set", "out", "\udcff"), 2, "which holds characters that no option has"),
    ],
    ids=["pull", "verify", "remove", "config"],
)
def test_bytes_that_are_no_text_are_refused_by_name(tmp_path, line, code, said):
    done = process(*(os.fsencode(word) for word in line), HF_HOME=str(tmp_path / "hf"), DALLE_HOME=str(tmp_path))
    assert done.code == code
    assert said in done.err


def test_an_address_of_the_hub_that_is_no_text_is_named(tmp_path):
    done = process("models", "pull", "hf:a/b", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="0", HF_ENDPOINT="\udcffx")
    assert done.code == 4
    assert "the address of the Hub holds characters that no address has" in done.err

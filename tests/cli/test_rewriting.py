"""`--rewrite`: what is asked, painted, kept and said, and when nobody is asked."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
from chat import Chat, Reply, chatting

from cli.conftest import Dalle, command, environment
from dallecli.pictures.metadata import read_recipe

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No language model is named by the environment."""
    for name in ("DALLE_REWRITE_URL", "DALLE_REWRITE_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def _named(monkeypatch: pytest.MonkeyPatch, chat: Chat) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", chat.url)
    monkeypatch.setenv("DALLE_REWRITE_MODEL", "parrot")


def test_a_picture_carries_what_was_asked_and_what_was_painted(dalle: Dalle) -> None:
    with chatting("a penguin next to a cake") as chat:
        made = dalle("generate", "my grandmother", "-s", "7", *chat.options)
    assert made.lines == ["my-grandmother-7.png"]  # under the name that somebody looks for
    assert f"parrot at {chat.url} rewrites the prompts" in made.err
    assert "rewritten by parrot: a penguin next to a cake" in made.err
    recipe = read_recipe(Path("my-grandmother-7.png"))
    assert recipe.prompt == "a penguin next to a cake"
    assert recipe.to_dict()["rewritten"] == {
        "by": "parrot",
        "sentences": [{"asked": "my grandmother", "painted": "a penguin next to a cake"}],
    }
    shown = dalle("show", "my-grandmother-7.png").out.decode()
    assert "asked for     my grandmother\nrewritten by  parrot\nprompt        a penguin next to a cake" in shown


def test_a_replay_asks_nobody(dalle: Dalle) -> None:
    with chatting("a penguin") as chat:
        dalle("generate", "my grandmother", "-o", "one.png", *chat.options)
    again = dalle("replay", "one.png", "-o", "two.png")  # nobody would answer any more
    assert again.code == 0, again.err
    assert read_recipe(Path("two.png")) == read_recipe(Path("one.png"))


def test_json_history_and_recipe_have_both(dalle: Dalle) -> None:
    with chatting("a penguin") as chat:
        (record,) = dalle("generate", "my grandmother", "--json", *chat.options).objects
    assert (record["prompt"], record["rewritten"]["sentences"][0]["asked"]) == ("a penguin", "my grandmother")
    (remembered,) = dalle("history", "grandmother", "--json").objects
    assert (remembered["prompt"], remembered["asked"]) == ("a penguin", "my grandmother")
    assert "my grandmother (a penguin)" in dalle("history", "penguin").out.decode()
    (plain,) = dalle("generate", "a cat", "--json").objects
    assert plain["rewritten"] is None
    assert "rewritten" not in read_recipe(Path(plain["path"])).to_dict()


def test_the_value_of_the_option_may_be_left_out_wherever_it_stands(dalle: Dalle, monkeypatch) -> None:
    with chatting("a penguin") as chat:
        _named(monkeypatch, chat)
        for line in (["--rewrite", "a cat"], ["a cat", "--rewrite"], ["--rewrite", "-n", "2", "a cat"]):
            assert dalle("generate", *line, "--no-history", "--force").code == 0
        assert len(chat.asked) == 3
        for line in (
            ["--rewrite", "optional", "a cat"],
            ["--rewrite=optional", "a cat"],
            ["--rewrite=required", "a cat"],
        ):
            assert dalle("generate", *line, "--force").code == 0
        assert chat.questions == ["a cat"] * 6
        assert dalle("generate", "--rewrite", "--", "optional", "--force").code == 0  # which are two prompts
        assert chat.questions[6:] == ["optional", "--force"]
        wrong = dalle("generate", "--rewrite=perhaps", "a cat")
    assert (wrong.code, "'perhaps'" in wrong.err) == (2, True)


ONE, TWO = "a red cat", "1. a red cat\n2. a red dog"


@pytest.mark.parametrize(
    ("answer", "line", "asked"),
    [
        (ONE, ["vary", "cat.png", "--prompt", "my cat"], 1),
        (ONE, ["inpaint", "cat.png", "--mask", "1,1,8,8", "--prompt", "my cat"], 1),
        (TWO, ["edit", "cat.png", "--from", "my cat", "--to", "my dog"], 1),
        (TWO, ["interpolate", "my cat", "my dog"], 1),
        (ONE, ["interpolate", "cat.png", "my dog"], 1),
        (ONE, ["generate", "my cat", "--x", "steps=5,10"], 1),
        (ONE, ["generate", "my cat", "--y", "prompt=my cat|my dog"], 2),
        (ONE, ["generate", "my cat", "my dog"], 2),
    ],
)
def test_every_command_with_words_has_them_rewritten(dalle: Dalle, local, monkeypatch, answer, line, asked) -> None:
    monkeypatch.setenv("DALLE_ENGINE", "fake")
    with chatting(answer) as chat:
        done = dalle(*line, *chat.options, "--out", "made")
    assert done.code == 0, done.err
    assert "rewritten by parrot: a red cat" in done.err
    assert len(chat.asked) == asked


def test_a_picture_without_words_asks_nobody(dalle: Dalle, local, monkeypatch) -> None:
    monkeypatch.setenv("DALLE_ENGINE", "fake")
    with chatting(Reply(500)) as chat:
        assert dalle("vary", "cat.png", "-o", "x.png", *chat.options).code == 0
    assert chat.asked == []


def test_a_dry_run_asks_nobody(dalle: Dalle) -> None:
    with chatting("a penguin") as chat:
        said = dalle("generate", "my grandmother", "--dry-run", *chat.options)
        Path("lines.txt").write_text("one\ntwo\n")
        lines = dalle("generate", "--prompts", "lines.txt", "--dry-run", *chat.options)
    assert (said.code, lines.code, chat.asked) == (0, 0, [])
    assert f"parrot at {chat.url} would rewrite the prompts; a dry run asks nobody" in said.err
    assert "would rewrite" in lines.err
    assert "my grandmother" in said.out.decode()


# Failures


@pytest.mark.parametrize("reply", [Reply(500), Reply(401), Reply(200, b"<html>"), Reply(200, b"{}")])
def test_a_failure_is_an_error_of_the_network_and_nothing_is_painted(dalle: Dalle, monkeypatch, reply) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with chatting(reply) as chat:
        failed = dalle("generate", "a cat", *chat.options)
        optional = dalle("generate", "a cat", "--rewrite", "optional", *chat.options, "-o", "cat.png")
    assert (failed.code, failed.out) == (4, b"")
    assert len(failed.err.splitlines()) == 4  # who is asked, and the error's three lines
    assert (optional.code, "warning: not rewritten, and painted as it was typed" in optional.err) == (0, True)
    recipe = read_recipe(Path("cat.png"))
    assert (recipe.prompt, recipe.rewritten) == ("a cat", None)
    assert SECRET not in failed.err + optional.err + json.dumps(recipe.to_dict())
    assert sorted(path.name for path in Path().iterdir()) == ["cat.png"]


def test_who_is_asked_has_to_be_named(dalle: Dalle, monkeypatch) -> None:
    nobody = dalle("generate", "a cat", "--rewrite")
    assert (nobody.code, "no server is named" in nobody.err, "--rewrite-with" in nobody.err) == (2, True, True)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    unnamed = dalle("generate", "a cat", "--rewrite")
    assert (unnamed.code, "no language model is named" in unnamed.err) == (2, True)
    odd = dalle("generate", "a cat", "--rewrite-with", "localhost", "m")
    assert (odd.code, "not the address" in odd.err) == (2, True)
    assert dalle("generate", "a cat", "--rewrite-with", "http://127.0.0.1:1").code == 2


def test_what_is_answered_is_words_and_never_an_option_or_a_file(dalle: Dalle) -> None:
    Path("secret.png").write_bytes(b"secret")
    with chatting("secret.png --out /tmp {red|blue} __list__ \x1b[31m") as chat:
        done = dalle("generate", "a cat", "-o", "cat.png", *chat.options)
    assert (done.code, "\x1b" in done.err) == (0, False)
    assert read_recipe(Path("cat.png")).prompt == "secret.png --out /tmp {red|blue} __list__ [31m"


def test_somebody_who_does_not_want_to_wait_can_stop_it() -> None:
    with chatting(Reply(wait=30.0)) as chat:
        process = subprocess.Popen(
            command("generate", "a cat", *chat.options), stderr=subprocess.PIPE, env=environment(), text=True
        )
        while not chat.asked:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert (process.returncode, "stopped by SIGINT" in said) == (130, True)


# The config file


def test_who_rewrites_can_be_set_without_rewriting_everything(dalle: Dalle) -> None:
    with chatting("a penguin") as chat:
        assert dalle("config", "set", "rewrite-with", f"{chat.url},parrot").code == 0
        assert dalle("generate", "a cat", "-o", "one.png").code == 0
        assert chat.asked == []
        assert dalle("generate", "a cat", "-o", "two.png", "--rewrite").code == 0
        assert len(chat.asked) == 1
        assert dalle("config", "set", "rewrite", "optional").code == 0
        assert dalle("generate", "a cat", "-o", "three.png").code == 0
        assert len(chat.asked) == 2
    assert dalle("config", "set", "rewrite", "perhaps").code == 2


# Prompt files


def test_a_run_that_goes_on_asks_for_no_line_again(dalle: Dalle) -> None:
    Path("lines.txt").write_text("my mother\nmy father\nmy {red|blue} car\n")
    with chatting("a red dog", "a blue dog", "a red car", Reply(500)) as chat:
        first = dalle("generate", "--prompts", "lines.txt", "--out", "made", *chat.options)
        assert (first.code, len(first.lines), len(chat.asked)) == (0, 3, 3), first.err
        again = dalle("generate", "--prompts", "lines.txt", "--out", "made", *chat.options)
        assert (again.code, again.lines, len(chat.asked)) == (0, [], 3), again.err
        Path(first.lines[0]).unlink()
        mended = dalle("generate", "--prompts", "lines.txt", "--out", "made", *chat.options)
        assert (mended.code, mended.lines, len(chat.asked)) == (0, first.lines[:1], 3), mended.err
    entries = [json.loads(line) for line in Path("made/journal.jsonl").read_text().splitlines()]
    assert [(entry["asked"], entry["prompt"]) for entry in entries[:2]] == [
        ("my mother", "a red dog"),
        ("my father", "a blue dog"),
    ]
    assert dalle("check", "made").code == 0


def test_a_failure_in_the_middle_keeps_what_is_done_and_goes_on_from_there(dalle: Dalle) -> None:
    Path("lines.txt").write_text("my mother\nmy father\n")
    with chatting("a red dog", Reply(500), "a blue dog") as chat:
        line = ["generate", "--prompts", "lines.txt", "--out", "made", *chat.options]
        failed = dalle(*line)
        assert (failed.code, "run the same command again" in failed.err) == (4, True)
        done = dalle(*line)
    assert (done.code, len(chat.asked)) == (0, 3), done.err
    assert len(list(Path("made").glob("*.png"))) == 2


def test_where_it_is_optional_lines_are_painted_as_they_are_and_stay_so(dalle: Dalle) -> None:
    Path("lines.txt").write_text("my mother\nmy father\n")
    with chatting(Reply(500), "a red dog") as chat:
        line = ["generate", "--prompts", "lines.txt", "--out", "made", "--rewrite=optional", *chat.options]
        first, again = dalle(*line), dalle(*line)
    assert (first.code, first.err.count("not rewritten"), len(first.lines)) == (0, 1, 2)
    assert (again.code, again.lines, len(chat.asked)) == (0, [], 1)


def test_a_torn_line_of_a_killed_run_is_passed_over(dalle: Dalle) -> None:
    Path("lines.txt").write_text("my mother\nmy father\n")
    with chatting("a red dog", "a blue dog", "a green dog") as chat:
        line = ["generate", "--prompts", "lines.txt", "--out", "made", *chat.options]
        dalle(*line)
        notes = Path("made/rewritten.jsonl")
        first, second = notes.read_bytes().splitlines(keepends=True)
        notes.write_bytes(first + second[:40])
        again = dalle(*line)
    assert (again.code, len(chat.asked)) == (0, 3)
    assert notes.read_bytes().startswith(first + second[:40] + b"\n{")


def test_what_is_unknown_in_the_new_words_is_said_once(dalle: Dalle, local) -> None:
    Path("lines.txt").write_text("my mother\nmy father\n")
    with chatting("a woman", "a woman", "a man", "a man") as chat:
        made = dalle(
            "generate", "--prompts", "lines.txt", "--steps", "2", "--size", "64", "--out", "made", *chat.options
        )
    assert made.code == 0
    assert "in 2 lines, from line 1 on: the starter does not know: woman, man" in made.err
    assert "mother" not in made.err.replace("my-mother", "")


def test_parts_of_a_prompt_file_cannot_be_told_before_it_is_rewritten(dalle: Dalle) -> None:
    Path("lines.txt").write_text("my mother\n")
    with chatting("a red dog") as chat:
        refused = dalle("generate", "--prompts", "lines.txt", "--shard", "1/2", *chat.options)
    assert (refused.code, "--share" in refused.err, chat.asked) == (2, True, [])


def test_two_processes_that_share_a_folder_ask_once_for_each_line(tmp_path: Path) -> None:
    Path("lines.txt").write_text("".join(f"line {k}\n" for k in range(12)))
    with chatting(*(f"dog {k}" for k in range(100))) as chat:
        line = command("generate", "--prompts", "lines.txt", "--out", "made", "--share", *chat.options)
        both = [subprocess.Popen(line, env=environment(), stderr=subprocess.DEVNULL) for _ in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
    assert sorted(chat.questions) == sorted(f"line {k}" for k in range(12))
    assert len(list(Path("made").glob("*.png"))) == 12


# Models that paint classes


def test_a_class_is_chosen_for_words_by_a_model_that_reads_none(dalle: Dalle, local, tmp_path: Path) -> None:
    import adm_oracle

    tiny = str(adm_oracle.write(tmp_path / "tiny"))
    with chatting("a dachshund", "golden retriever") as chat:
        quick = ("--steps", "2", "--upsampler-steps", "2")
        made = dalle("generate", "my old dog", "-m", tiny, "-o", "old.png", *quick, *chat.options)
        assert made.code == 0, made.err
        assert "golden retriever" in chat.briefs[0]
        assert "no class is called 'a dachshund'" in chat.questions[1]
        dry = dalle("generate", "my old dog", "-m", tiny, "--dry-run", *chat.options)
    recipe = read_recipe(Path("old.png"))
    assert (recipe.prompt, recipe.settings.class_name) == ("", "golden retriever")
    assert recipe.title == "my old dog"
    assert (dry.code, "my old dog" in dry.out.decode()) == (0, True)


def test_help_names_both_options() -> None:
    help_ = subprocess.run(command("vary", "--help"), capture_output=True, text=True, env=environment()).stdout
    assert "--rewrite [optional]" in help_
    assert "--rewrite-with URL MODEL" in help_

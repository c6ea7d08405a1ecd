"""A request in other words: what the painting model knows decides what is asked, and what is taken of the answer."""

import subprocess
import sys

import pytest
from chat import Reply, chatting

from dallecli.errors import NetworkError, PromptError
from dallecli.fake_engine import FakeEngine
from dallecli.rewriting.endpoint import Endpoint
from dallecli.rewriting.engine import RewritingEngine, UnaskedEngine
from dallecli.rewriting.rewriter import Rewriter
from dallecli.source import words
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.edit import Edit
from dallecli.tasks.generate import Generate
from dallecli.tasks.interpolate import Interpolate
from dallecli.tasks.task import Request

GRANDMOTHER = Generate(model="starter", prompt="my grandmother baking bread")


def _rewriter(chat, **changes: object) -> Rewriter:
    return Rewriter(endpoint=Endpoint(url=chat.url, model="parrot"), **changes)  # type: ignore[arg-type]


def _rewritten(chat, request: Request = GRANDMOTHER) -> Request:
    return _rewriter(chat).rewrite(request, LocalEngine()).request


def test_what_the_starter_does_not_know_is_said_in_words_that_it_knows():
    with chatting("a giant cake next to a house") as chat:
        request = _rewritten(chat)
    assert "teddy bear" in chat.briefs[0]
    assert "soccer ball" in chat.briefs[0]
    recipe = LocalEngine().resolve(request)
    assert (recipe.prompt, recipe.unknown.words) == ("a giant cake next to a house", ())
    assert recipe.rewritten is not None
    assert (recipe.rewritten.by, recipe.rewritten.asked) == ("parrot", "my grandmother baking bread")


def test_an_answer_with_unknown_words_is_sent_back_once():
    with chatting("a woman next to a cake", "a penguin next to a cake") as chat:
        assert _rewritten(chat).words == "a penguin next to a cake"
    assert "does not know these words: woman." in chat.questions[1]
    assert chat.asked[1]["messages"][2] == {"role": "assistant", "content": "a woman next to a cake"}


def test_of_two_answers_the_better_one_is_painted_and_what_is_unknown_in_it_is_said():
    with chatting("a woman next to a cake", "a granny kneads dough") as chat:
        recipe = RewritingEngine(LocalEngine(), _rewriter(chat)).resolve(GRANDMOTHER)
    assert (len(chat.asked), recipe.prompt, recipe.unknown.words) == (2, "a woman next to a cake", ("woman",))


def test_an_answer_that_is_too_long_is_sent_back():
    request = Generate(model="fake", prompt="a cat")
    with chatting(" ".join(["cat"] * 40), "a short cat") as chat:
        assert _rewriter(chat).rewrite(request, FakeEngine()).request.words == "a short cat"
    assert "too long" in chat.questions[1]


def test_an_answer_that_is_no_sentence_is_asked_for_again_and_then_an_error():
    with chatting("", "a red dog") as chat:
        assert _rewritten(chat).words == "a red dog"
    with chatting("") as chat, pytest.raises(NetworkError, match="cannot be painted"):
        _rewritten(chat)
    assert len(chat.asked) == 2


def test_a_strict_request_may_say_anything_that_is_then_rewritten():
    strict = Generate(model="starter", prompt="my grandmother baking bread", strict=True)
    with chatting("a red dog") as chat:
        assert RewritingEngine(LocalEngine(), _rewriter(chat)).resolve(strict).prompt == "a red dog"
    with chatting("a red grandmother") as chat, pytest.raises(Exception, match="does not know: grandmother"):
        RewritingEngine(LocalEngine(), _rewriter(chat)).resolve(strict)


def test_nobody_is_asked_about_what_cannot_be_painted():
    with chatting("a red dog") as chat, pytest.raises(Exception, match="does not paint 7 pixels"):
        _rewritten(chat, Generate(model="starter", prompt="a cat", size=7))
    assert chat.asked == []


def test_all_sentences_between_which_frames_lie_are_rewritten_in_one_question():
    request = Interpolate(model="starter", ends=(words("my mother"), words("my father")), frames=3)
    with chatting("1. a red dog\n2. a blue dog") as chat:
        painted = _rewritten(chat, request)
    assert painted.texts == ("a red dog", "a blue dog")
    assert chat.questions == ["1. my mother\n2. my father"]
    assert LocalEngine().resolve(painted).title == "my mother to my father"  # and so the file is called


def test_the_sentences_of_an_edit_stay_two(tmp_path):
    from PIL import Image

    from dallecli.source import read_source

    Image.new("RGB", (32, 32)).save(tmp_path / "cat.png")
    request = Edit(model="fake", image=read_source(str(tmp_path / "cat.png")), before="old", after="young")
    with chatting("1. a dog\n2. a dog", "1. a dog\n2. a small dog") as chat:
        outcome = _rewriter(chat).rewrite(request, FakeEngine())
    assert outcome.request.texts == ("a dog", "a small dog")
    assert "both sentences are the same" in chat.questions[1]


def test_a_negative_prompt_stays_as_it_is():
    request = Generate(model="fake", prompt="a cat", negative="dogs")
    with chatting("a red cat") as chat:
        assert _rewriter(chat).rewrite(request, FakeEngine()).request.texts == ("a red cat", "dogs")


def test_the_same_sentence_is_rewritten_once_in_a_run():
    with chatting("a red dog", "a blue dog") as chat:
        engine = RewritingEngine(LocalEngine(), _rewriter(chat))
        assert engine.resolve(GRANDMOTHER).prompt == engine.resolve(GRANDMOTHER).prompt == "a red dog"
    assert len(chat.asked) == 1


def test_where_it_is_optional_a_failure_is_a_warning_and_nobody_else_is_asked_about():
    other = Generate(model="starter", prompt="a red car")
    with chatting(Reply(500)) as chat:
        rewriter = _rewriter(chat, optional=True)
        first, second = (rewriter.rewrite(request, LocalEngine()) for request in (GRANDMOTHER, other))
    assert (first.request, second.request) == (GRANDMOTHER, other)
    assert "painted as it was typed: parrot answers 500" in first.warnings[0]
    assert (second.warnings, len(chat.asked)) == ((), 1)


def test_a_server_asks_again_after_a_failure():
    with chatting(Reply(500), "a red dog") as chat:
        rewriter = _rewriter(chat, optional=True, patient=True)
        assert rewriter.rewrite(GRANDMOTHER, LocalEngine()).request == GRANDMOTHER
        assert rewriter.rewrite(Generate(model="starter", prompt="x"), LocalEngine()).request.words == "a red dog"


def test_what_is_only_looked_at_is_not_rewritten_and_nothing_is_said_of_its_words():
    recipe = UnaskedEngine(LocalEngine()).resolve(GRANDMOTHER)
    assert (recipe.prompt, recipe.rewritten, recipe.unknown.words) == (GRANDMOTHER.words, None, ())
    with pytest.raises(PromptError):
        UnaskedEngine(LocalEngine()).resolve(Generate(model="starter"))


def test_torch_is_not_imported_before_somebody_has_failed_to_answer():
    with chatting(Reply(500)) as chat:
        code = f"""
import sys
from dallecli.cli.app import run
code = run(["generate", "a cat", "--rewrite-with", {chat.url!r}, "parrot"])
print(code, "torch" in sys.modules)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["4", "False"], done.stderr

"""What is read of an answer, and what a language model is told before it answers."""

import pytest

from dallecli.classes import Classes
from dallecli.knowledge import Knowledge
from dallecli.limits import REWRITTEN_CHARACTERS
from dallecli.rewriting.brief import brief, read

WORDS = Knowledge(words={"things": {"dog": ("dogs",), "cake": ()}, "colours": {"red": ()}})


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("a red dog", "a red dog"),
        ('"A red dog."', "A red dog."),
        ("“a red dog”", "a red dog"),
        ("  a red\n\n  dog \t", "a red dog"),
        ("Here is the rewritten prompt:\n\na red dog", "a red dog"),
        ("Rewritten prompt: a red dog", "a red dog"),
        ("**Prompt:** a red dog", "a red dog"),
        ("1. a red dog", "a red dog"),
        ("- a red dog", "a red dog"),
        ("```text\na red dog\n```", "a red dog"),
        ("<think>they want\na cat</think>\n\na red dog", "a red dog"),
        ("they want a cat</think>a red dog", "a red dog"),
        ("a \x1b[31mred\x07 dog\u202e\u200b\x00", "a [31mred dog"),
        ("--model karlo --out /etc", "--model karlo --out /etc"),  # words like others
        ("a 'red' dog", "a 'red' dog"),
        ("2 red dogs", "2 red dogs"),
        ("🧸 on a 🛹", "🧸 on a 🛹"),
    ],
)
def test_the_sentence_is_found_in_what_models_say_around_it(answer, sentence):
    assert read(answer, 1) == [sentence]


@pytest.mark.parametrize("answer", ["", "  \n", '""', "<think>a red dog</think>", "\x00\x1b", "```\n```"])
def test_what_holds_no_sentence_is_none(answer):
    assert read(answer, 1) is None


def test_a_sentence_has_no_more_characters_than_the_bound():
    assert read("a" * REWRITTEN_CHARACTERS, 1) is not None
    assert read("a" * (REWRITTEN_CHARACTERS + 1), 1) is None


def test_of_several_sentences_each_has_its_line():
    assert read("1. a dog\n2) a cake\n", 2) == ["a dog", "a cake"]
    assert read("Here they are:\n1. a dog\n2. a cake", 2) == ["a dog", "a cake"]
    assert read("a dog and a cake", 2) is None
    assert read("1. a dog\n2. a cake\n3. a tree", 2) is None


def test_a_model_with_known_words_is_told_them():
    system, user = brief("generate", ["my grandmother"], WORDS)
    assert "things: dog, cake\ncolours: red" in system["content"]
    assert user == {"role": "user", "content": "my grandmother"}


def test_a_model_that_paints_classes_is_told_their_names():
    system, _ = brief(
        "generate", ["my pet"], Knowledge(classes=Classes(("tench, Tinca tinca", "goldfish")), prompts=False)
    )
    assert system["content"].endswith("\n\ntench\ngoldfish")


def test_any_other_model_has_room_for_so_many_words():
    assert "at most 50 words" in brief("generate", ["x"], Knowledge())[0]["content"]


def test_several_sentences_are_numbered_and_those_of_an_edit_compared():
    system, user = brief("edit", ["a\ncat", "a dog"], Knowledge())
    assert user["content"] == "1. a cat\n2. a dog"
    assert "only their difference counts" in system["content"]
    assert "2 lines" in system["content"]

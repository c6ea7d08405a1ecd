"""What people call classes, and which are meant."""

import pytest

from dallecli.classes import Classes
from dallecli.errors import BadSetting
from dallecli.weights.adm import imagenet

IMAGENET = imagenet()


def test_every_class_of_imagenet_is_found_by_its_number_and_by_the_name_that_recipes_have() -> None:
    assert len(IMAGENET) == 1000
    for number in range(1000):
        assert IMAGENET.number(str(number)) == number
        assert IMAGENET.number(IMAGENET.name(number)) == number
    unnamed = [IMAGENET.lines[number] for number in range(1000) if IMAGENET.name(number).isdigit()]
    assert unnamed == ["crane", "cardigan", "crane", "maillot"]


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        ("golden retriever", 207),
        ("Golden_Retriever", 207),
        (" 207 ", 207),
        ("Tinca tinca", 0),
        ("man-eating shark", 2),
        ("toilet tissue", 999),
        ("gong", 577),  # a chime is called so, too, but not first
        ("giant panda", 388),
        ("Cardigan Welsh corgi", 264),
    ],
)
def test_a_name_means_one_class(asked: str, number: int) -> None:
    assert IMAGENET.number(asked) == number


@pytest.mark.parametrize(
    ("asked", "what", "hint"),
    [
        ("goldn retriver", "no class is called", "did you mean golden retriever (207)?"),
        ("labrador", "no class is called", "did you mean Labrador retriever (208)?"),
        ("dog", "no class is called", "or 9 more?"),
        ("panda", "2 classes are called", "lesser panda (387) or giant panda (388)"),
        ("crane", "2 classes are called", "crane (134) or crane (517)"),
        ("xyzzy", "no class is called", "by number from 0 to 999"),
        ("1000", "there is no class 1000", "from 0 to 999"),
        ("-1", "no class is called", "by number from 0 to 999"),
        ("\x1b[31m", "no class is called", "by number"),
    ],
)
def test_what_means_none_or_several_says_which_were_perhaps_meant(asked: str, what: str, hint: str) -> None:
    with pytest.raises(BadSetting) as raised:
        IMAGENET.number(asked)
    assert raised.value.what.startswith(what)
    assert raised.value.hint is not None
    assert hint in raised.value.hint
    assert "\x1b" not in raised.value.what


def test_names_that_two_classes_share_do_not_hide_a_first_name() -> None:
    classes = Classes(("chime, bell, gong", "gong, tam-tam", "bell"))
    assert [classes.number(name) for name in ("gong", "bell", "chime", "tam tam")] == [1, 2, 0, 1]

"""Captions are cleaned as by DeepFloyd's published pipeline: twice the rules of diffusers' `IFPipeline`.

That needs Beautiful Soup, a dependency of the tests alone. Where it is missing, our own reading of HTML stands in for
it, and the test says nothing about HTML; all other rules are compared all the same.
"""

import importlib.util
import random
import re
import time
from collections.abc import Callable

import pytest
from diffusers.pipelines.deepfloyd_if import pipeline_if
from hypothesis import given, settings
from hypothesis import strategies as st

from dallecli.captions import clean_caption, text_of, typed_end
from dallecli.limits import PROMPT_BYTES

SOUP = importlib.util.find_spec("bs4") is not None

_PIECES = (
    "a photo of the corgi riding|http://x.com/a?b=c|https:/y|www.foo.co.uk|bar.ru/|me@foo.com|foo.com@|"
    "@nick name|<b>bold</b>|<br>|<br/>|<p>|</p>|</br>|<script>var x=1</script>|<style>p{}</style>|"
    "<!-- c -->|<!DOCTYPE html>|<?pi x?>|<![CDATA[ data ]]>|<template>t</template>|"
    "<ruby>a<rt>b</rt></ruby>|<pre>   </pre>|<textarea>  |<i>  </i>|<person>|<img src=x.png>|"
    "<a href='x'>|<|>|<3|a<b|</|<!|&amp;|&amp|&quot;|&quot|&lt;b&gt;|&eacute;|&eacute|&foo;|&foo|"
    "&#233;|&#x41;|&#65|&#0;|&#150;|&#129;|&#x110000;|&#55296;|&#x;|&#|&amp;amp;quot;|漢字|㇀ㇰ㈀㌀㐀䷀一|–—―‐-|"
    "«x»|“q”|‘a’|`´¨|192.168.1.1|1.2.3.4.5|1:23  |\\n|\n|\t|  |#12|#1234|#12345|1234567|pic.png|.png|"
    "a.b.jpg.jpeg.x|'''|\"\"|...|..|#®•©™&@·º½¾¿¡§~()[]{}|\\|/*| . | .|a-b-c-d-e|a_b|Ã©|â€™|ab1234|"
    "jc6640vc|6640vc231|worldwide free shipping|free shipping|shipping|free download free|download|"
    "click for x|click on|png image|jpg images|page 12|j2d1a2a|10x15|3.5х4|2×3| : |a,b|a.b|a/b|"
    "'quoted'|\"q\"|_x|,|-|:|;|+|%20|%C3%A9|%zz|a+b|CAPS|Straße|İ|ΟΔΟΣ|🧸|\x07|\x1b[31m|\u200b|\xa0|"
    "\u3000|ﬁ|Ａ|½|…|\r\n|\r|\u2028|\x85|1.|.5|x.com.net/path-/|sub-.org"
)
PIECES = _PIECES.split("|")
"""At least one text for every rule, what borders on them, and markup that is broken in some way."""


def odd_texts(count: int) -> list[str]:
    chance = random.Random(11)
    spaces = ["", "", " ", " ", "\n"]
    return [
        "".join(chance.choice(PIECES) + chance.choice(spaces) for _ in range(chance.randrange(1, 9)))
        for _ in range(count)
    ]


class StandIn:
    """What the rules ask of Beautiful Soup."""

    def __init__(self, markup: str, features: str) -> None:
        self.text = text_of(markup)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The published cleaning, without a model around it."""
    if not SOUP:
        monkeypatch.setattr(pipeline_if, "BeautifulSoup", StandIn, raising=False)
    pipeline = pipeline_if.IFPipeline.__new__(pipeline_if.IFPipeline)
    clean = pipeline_if.IFPipeline._clean_caption
    return lambda text: clean(pipeline, clean(pipeline, text))


@pytest.mark.filterwarnings("ignore")  # Beautiful Soup wonders whether a short text is the name of a file
def test_odd_texts_are_cleaned_as_published(published):
    for text in [*PIECES, *odd_texts(3000)]:
        assert clean_caption(text) == published(text), text


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_is_cleaned_as_published(text):
    # Not by a fixture, which hypothesis would share between examples.
    with pytest.MonkeyPatch.context() as patch:
        if not SOUP:
            patch.setattr(pipeline_if, "BeautifulSoup", StandIn, raising=False)
        pipeline = pipeline_if.IFPipeline.__new__(pipeline_if.IFPipeline)
        clean = pipeline_if.IFPipeline._clean_caption
        assert clean_caption(text) == clean(pipeline, clean(pipeline, text))


@pytest.mark.skipif(not SOUP, reason="compares with Beautiful Soup")
@pytest.mark.filterwarnings("ignore")
def test_the_text_of_markup_is_that_of_beautiful_soup():
    from bs4 import BeautifulSoup

    for text in [*PIECES, *odd_texts(3000)]:
        assert text_of(text) == BeautifulSoup(text, "html.parser").text, text


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("", ""),
        ("A photo of a Corgi", "a photo of a corgi"),
        ("a <b>red</b> fox &amp; a hen", "a red fox a hen"),
        ("see https://example.com/fox.png now", "see now"),
        ("see example.com now", "see now"),
        ("a fox by @someone", "a fox by"),
        ("cat漢字cat", "catcat"),
        ("“a” — ‘b’", "a\" - 'b"),
        ("this-is-a-small-cat", "this is a small cat"),
        ("well-known cat", "well-known cat"),
        ("***SALE*** cat #12345 page 3 free shipping", "sale cat"),
        ("a caf%C3%A9+table", "a café table"),
        ("schÃ¶n", "schã¶n"),
        ("a, b,c", "a, b, c"),
    ],
)
def test_what_is_read_of_a_prompt(typed, read):
    assert clean_caption(typed) == read


def test_what_is_not_read_is_shown_as_it_was_typed_where_only_case_differs():
    assert typed_end("  A photo of Paris ", "of paris") == "of Paris"
    assert typed_end("a photo &amp; Paris", "& paris") == "& paris"
    assert typed_end("a photo", "") == ""
    assert typed_end("İstanbul", "stanbul") == "stanbul"


def test_of_an_endless_prompt_the_beginning_is_looked_at_and_the_rest_is_not_read():
    prompt = "fox " * 2000
    assert clean_caption(prompt) == clean_caption("fox " * 1024)
    assert typed_end(prompt, "") == ("fox " * 976).strip()
    assert typed_end(prompt, "fox") == ("fox " * 976 + "fox").strip()


@pytest.mark.parametrize(
    "markup", ["<![if x]>a", "<!doctype [<!a", "<![foo[", "a<!ELEMENT x [", "<!-", "<!DOCTYPE [<!x"]
)
def test_markup_that_the_parser_gives_up_on_is_read_all_the_same(markup):
    assert isinstance(clean_caption(markup), str)


def test_a_reference_to_an_endless_number_is_no_character():
    assert clean_caption(f"a &#{'9' * 3000}; b") == "a \N{REPLACEMENT CHARACTER} b"


LONG = PROMPT_BYTES


@pytest.mark.parametrize(
    "text",
    [
        " " * LONG,
        "a" * LONG,
        "a-" * (LONG // 2),
        "a." * (LONG // 2),
        "." * LONG,
        "1" * LONG,
        "1a" * (LONG // 2),
        "\t ." * (LONG // 3),
        "<" * LONG,
        "<a " * (LONG // 3),
        "<b>" * (LONG // 3),
        "<br>" * (LONG // 4) + "</br>" * 100,
        "</b>" * (LONG // 4),
        "&" * LONG,
        "&#" * (LONG // 2),
        "<!--" * (LONG // 4),
        "%20" * (LONG // 3),
        "free " * (LONG // 5),
        "worldwide" + " " * (LONG - 9),
        "'\"" * (LONG // 2),
        ".png" * (LONG // 4),
        "x.com@" * (LONG // 6),
        "a.com-" * (LONG // 6) + "@",
        "1x" * (LONG // 2),
    ],
    ids=lambda text: re.sub(r"\s", "_", text[:6]),
)
def test_the_longest_prompt_takes_no_longer_than_people_wait(text):
    began = time.perf_counter()
    clean_caption(text)
    assert time.perf_counter() - began < 5.0

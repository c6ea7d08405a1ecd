"""The words of this world's captions: every phrase its grammar can write, and the closed list of its words.

What the first world says alike is taken from there.
"""

import re
from functools import lru_cache
from typing import Final

from dallecli.training.world import captions as first
from dallecli.training.world.backdrops import COLOURS
from dallecli.training.world.captions import article
from dallecli.training.world.looks.grounds import PLACES
from dallecli.training.world.looks.vocabulary import things

PLACE_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    **first.PLACE_PHRASES,
    "city park": ("in the city park", "in a city park", "in the park", "in a park"),
    "nebula": ("in a nebula", "in a nebula", "in front of a nebula", "in the nebula"),
    "desert": ("in the desert", "in the desert", "in a desert"),
}

STYLE_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "3d": ("a 3d render of {0}", "a 3d {1}", "a 3d {1}", "{0}, 3d render", "{0}, 3d"),
    "flat": ("a flat illustration of {0}", "a flat {1}", "vector art of {0}", "{0}, flat", "{0}, vector art"),
    "line drawing": ("a line drawing of {0}", "a line drawing of {0}", "line art of {0}", "a coloring page of {0}"),
    "pixel art": first.STYLE_PHRASES["pixel art"],
    "pencil sketch": first.STYLE_PHRASES["pencil sketch"],
    "black and white": first.STYLE_PHRASES["black and white"],
    "silhouette": ("a silhouette of {0}", "the silhouette of {0}", "{0}, silhouette", "{0} in silhouette"),
    "sticker": ("a sticker of {0}", "a sticker of {0}", "{0}, sticker", "a {1} sticker"),
}
"""``{0}`` is the phrase, ``{1}`` the phrase without its article."""
STYLES: Final = ("plain", *STYLE_PHRASES)
"""Style classes in label order."""

STYLE_LOOKS: Final = {"3d": "F", "flat": "T", "line drawing": "L"}
"""The styles that are another artist's drawing; the rest are done to any drawing."""


def styled(template: str, phrase: str, place: str) -> str:
    """The phrase, with the words for its place behind it, in a style.

    "a dog sticker in the park": where the style is said with the thing's bare name, the place follows.
    """
    if "{1}" in template:
        return template.format(phrase, re.sub(r"^(a|an|the|one) ", "", phrase)) + place
    return template.format(phrase + place)


def word_kinds() -> first.WordKinds:
    """The words of the captions, by kind."""
    return {
        **first.word_kinds(),
        "things": {thing.name: first.others(thing.plural, *thing.aliases) for thing in things()},
        "colours": {colour: [] for colour in sorted({*COLOURS, *first.INKS})},
        "places": first.named(PLACE_PHRASES),
        "styles": first.named(STYLE_PHRASES),
        "relations": first.relations([verb for thing in things() for verb in thing.verbs]),
    }


@lru_cache(maxsize=1)
def caption_words() -> tuple[str, ...]:
    """Every word and mark that a caption of this world can contain, then the everyday words; sorted, each once."""
    tables = [*first.caption_words(), *PLACES, *COLOURS]
    for phrases in (*PLACE_PHRASES.values(), *STYLE_PHRASES.values()):
        tables += phrases
    for thing in things():
        tables += [article(thing.name), thing.name, thing.plural, *thing.aliases, *thing.verbs]
    text = re.sub(r"\{\w\}", " ", " ".join(tables))
    return tuple(sorted(set(re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]", text))))

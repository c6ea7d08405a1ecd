"""The words of the training captions: every phrase the grammar can write, and the closed list of its words."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from dallecli.training.world.backdrops import COLOURS, PLACES
from dallecli.training.world.vocabulary import things

OPENINGS = ("", "", "", "", "", "", "a photo of ", "a photo of ", "a picture of ")
"""What may stand before a subject; neither changes the picture, so that "photo" asks for nothing."""

OPENED = ("a ", "an ", "two ", "three ")
"""How a phrase begins that may have an opening before it."""

DETERMINERS = ("a", "a", "a", "a", "a", "a", "the", "one", "")

SMALL = ("small", "tiny", "little")
LARGE = ("giant", "big", "huge")
LEFT = ("on the left", "on the left side")
RIGHT = ("on the right", "on the right side")
INKS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
COUNTS = {2: ("two",), 3: ("three",)}
ON = ("on", "on top of", "sitting on")
WEARING = ("wearing a crown", "with a crown")
UNDER = ("under",)
HOLDING = ("with",)
"""What is said of whoever shelters under something that they can hold."""
BESIDE = ("next to", "and", "beside")
LEFT_OF = ("left of", "to the left of")
RIGHT_OF = ("right of", "to the right of")

PLAIN_GROUND = (" on {a} background", " on {a} background", " with {a} background", ", {0} background")
"""``{a}`` is the colour with its article, ``{0}`` the colour alone."""

PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "space": ("in space", "in space", "in outer space"),
    "forest": ("in the forest", "in the forest", "in a forest", "in the woods"),
    "beach": ("at the beach", "on the beach", "at the beach"),
    "times square": ("in times square", "in times square", "in the city at night"),
    "snow": ("in the snow", "in the snow", "in winter"),
    "sea": ("under the sea", "under the sea", "underwater"),
    "living room": ("in the living room", "in a living room", "in the room"),
}

STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    "pencil sketch": ("a pencil sketch of {0}", "a pencil sketch of {0}", "a sketch of {0}", "{0}, pencil sketch"),
    "pixel art": ("pixel art of {0}", "a pixel art of {0}", "{0}, pixel art", "{0} in pixel art style"),
    "black and white": ("a black and white photo of {0}", "a black and white photo of {0}", "{0} in black and white"),
}
STYLES = ("plain", *STYLE_PHRASES)
"""Style classes in label order."""

EVERYDAY = """
i you he she it we they his her their my your this that these those some many few several four five six seven eight
nine ten first no not very really just only is are was be being has have had do does can will would should who what
which where when to from by for into over above below behind between around through near inside outside front middle
center corner bottom side up down off out as like make made draw drawing drawn painting paint painted image pictures
photos photograph portrait art artwork style cartoon illustration render icon emoji sticker logo digital oil
watercolor detailed beautiful cute happy sad funny cool nice pretty old new young baby long short tall round bright
dark light colorful golden gold silver brown grey turquoise cyan violet magenta beige colored colour color white shiny
wooden standing walking running jumping flying swimming eating holding playing looking sleeping smiling dancing
reading cooking hat glasses sunglasses ball book man woman person people boy girl child animal animals food fruit sky
moon cloud clouds rain water ocean river lake mountain mountains grass field garden park street road room table chair
bed box fire ice night day morning evening sunset summer spring autumn city town world earth mars new york high low
quality hd 4k close view background scene riding wearing
"""
"""Words that people type though no caption has them: whole tokens that the text encoder meets untrained but short."""


FUNCTION_WORDS = """
a an the one of and with in on at to is are was were be being been it its there here this that these those which who i
you he she we they me him them us my your his her our their some any just so very really please show make draw paint
"""
"""Words that show nothing: a caption means the same with and without them, whether or not it has them."""

WordKinds = dict[str, dict[str, list[str]]]
"""Kind of words -> what it is called first -> how else it is said: `words.json` of a model (weights/known.py)."""


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it, as it sounds: an apple, a unicorn."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith("uni")
    return f"{'an' if vowel else 'a'} {phrase}"


def determined(determiner: str, phrase: str) -> str:
    """The phrase behind one of ``DETERMINERS``."""
    return article(phrase) if determiner == "a" else f"{determiner} {phrase}".strip()


def word_kinds() -> WordKinds:
    """The words of the captions, by kind."""
    return {
        "things": {thing.name: others(thing.plural, *thing.aliases) for thing in things()},
        "colours": {colour: [] for colour in sorted({*COLOURS, *INKS})},
        "backgrounds": named({"background": PLAIN_GROUND}),
        "places": named(PLACE_PHRASES),
        "styles": named(STYLE_PHRASES),
        "relations": relations([verb for thing in things() for verb in thing.verbs]),
        "counts": {"one": [], **{words[0]: list(words[1:]) for words in COUNTS.values()}},
        **MODIFIERS,
        "openings": {opening.strip(): [] for opening in dict.fromkeys(OPENINGS) if opening},
        "function words": {word: [] for word in FUNCTION_WORDS.split()},
    }


MODIFIERS: WordKinds = {
    "sizes": {SMALL[0]: list(SMALL[1:]), LARGE[0]: list(LARGE[1:])},
    "sides": {LEFT[0]: list(LEFT[1:]), RIGHT[0]: list(RIGHT[1:])},
}


def relations(verbs: Sequence[str]) -> dict[str, list[str]]:
    """How two things stand to each other; `verbs` are those of riding."""
    sheltered = (*UNDER, *(f"{word} an umbrella" for word in HOLDING))
    said = (tuple(dict.fromkeys(verbs)), ON, WEARING, sheltered, BESIDE, LEFT_OF, RIGHT_OF)
    return {phrases[0]: list(phrases[1:]) for phrases in said}


def named(phrases: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Names with the phrases that say them, in which "…" is the place of something else."""
    return {
        name: others(*(re.sub(r"\{\w\}", "…", phrase).strip(" ,") for phrase in said), but=name)
        for name, said in phrases.items()
    }


def others(*said: str, but: str = "") -> list[str]:
    """Each way to say it once."""
    return [one for one in dict.fromkeys(said) if one not in ("", but)]


@lru_cache(maxsize=1)
def caption_words() -> tuple[str, ...]:
    """Every word and punctuation mark that a caption can contain, then the everyday words; sorted, without repeats.

    Complete by construction: it is gathered from the phrase tables, not from sampled captions.
    """
    tables: list[str] = [*OPENINGS, *DETERMINERS, "an", *SMALL, *LARGE, *LEFT, *RIGHT, *INKS, *ON, *WEARING]
    tables += [*UNDER, *HOLDING, *BESIDE, *LEFT_OF, *RIGHT_OF, *COLOURS, *PLACES, *PLAIN_GROUND, ". , ! ?", EVERYDAY]
    for phrases in (*COUNTS.values(), *PLACE_PHRASES.values(), *STYLE_PHRASES.values()):
        tables += phrases
    for thing in things():
        tables += [thing.name, thing.plural, *thing.aliases, *thing.verbs]
    text = " ".join(tables).replace("{a}", " ").replace("{0}", " ")
    return tuple(sorted(set(re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]", text))))

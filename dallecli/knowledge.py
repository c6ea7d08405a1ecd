"""What the makers of a model say that it knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dallecli.classes import Classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What a model can be asked for.

    words: those that it knows, by kind, each with other ways to say it; none where its makers wrote no list. classes:
    those that it paints by their names; None where it paints none. prompts: whether it reads words at all.
    """

    words: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    classes: Classes | None = None
    prompts: bool = True

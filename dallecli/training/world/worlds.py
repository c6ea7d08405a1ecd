"""The worlds that a preset may name."""

from typing import Final

from dallecli.errors import BadSetting
from dallecli.training.world.first import FIRST
from dallecli.training.world.looks.world import LOOKS_WORLD
from dallecli.training.world.world import World

WORLDS: Final = {world.name: world for world in (FIRST, LOOKS_WORLD)}


def find_world(name: str) -> World:
    """Return a world by name. Raises BadSetting if there is none of that name."""
    if name not in WORLDS:
        raise BadSetting(f"there is no world {name!r}", hint=f"choose one of {', '.join(WORLDS)}")
    return WORLDS[name]

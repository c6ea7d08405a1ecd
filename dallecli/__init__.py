"""dalle: an open DALL-E 2 for the shell, and for Python.

    model = dallecli.open("starter")
    for picture in model.generate("a red car at the beach", num=4, seed=7):
        picture.save(f"{picture.recipe.seed}.png")

What stands in `__all__` is the documented face (docs/python.md). Nothing of it is imported before it is asked for:
`dalle --help` passes through this file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dallecli.version import __version__

if TYPE_CHECKING:
    from dallecli.codes_file import Coded
    from dallecli.embedding_file import Embedded
    from dallecli.engine import Progress
    from dallecli.errors import DalleError
    from dallecli.model import DalleWarning, Model, open
    from dallecli.pictures.picture import Picture
    from dallecli.ranking import Score
    from dallecli.recipe import Recipe

__all__ = [
    "Coded",
    "DalleError",
    "DalleWarning",
    "Embedded",
    "Model",
    "Picture",
    "Progress",
    "Recipe",
    "Score",
    "__version__",
    "open",
]

_ROOMS = {
    "Coded": "codes_file",
    "DalleError": "errors",
    "DalleWarning": "model",
    "Embedded": "embedding_file",
    "Model": "model",
    "Picture": "pictures.picture",
    "Progress": "engine",
    "Recipe": "recipe",
    "Score": "ranking",
    "open": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'dallecli' has no attribute {name!r}")
    return getattr(import_module(f"dallecli.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

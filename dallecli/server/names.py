"""Which model a request means: the name of one, or a name of OpenAI's, which stands for the default model.

A client never names a folder: files on this machine are none of its business.
"""

from collections.abc import Iterable
from typing import Any, Final

from dallecli.errors import DalleError, UnknownModel
from dallecli.server.serving import Serving
from dallecli.weights.registry import HUB, find, locate, registry, unknown_model

ALIASES: Final = ("dall-e-2", "dall-e-3", "chatgpt-image-latest")
"""Names that programs have built in."""

ONLY_BASE64: Final = ("gpt-image", "chatgpt-image")
"""What names of models begin with that answer with base64 alone, and never with a URL."""


class Names:
    """The models of a server by the names that clients use.

    Raises: as `find` and `locate` for the default model.
    """

    def __init__(self, serving: Serving, began: int) -> None:
        self._serving = serving
        self._began = began
        self.default = find(serving.model)
        locate(self.default)
        for name, model in serving.aliases.items():
            locate(find(model))
            if name == self.default.name or name in registry():
                raise UnknownModel(f"--alias {name} would hide the model of this name", hint="another name")
        self._folders = _folders((serving.model, *serving.aliases.values()))

    def meant(self, name: str | None) -> str:
        """The model that a request asks for, as an engine calls it. Raises UnknownModel."""
        if not name or name == self.default.name:
            return self._serving.model
        if name in self._serving.aliases:
            return self._serving.aliases[name]
        if self._is_alias(name):
            return self._serving.model
        if name in registry() or name.startswith(HUB):
            return name
        hint = f"GET /v1/models lists them; the default is {self.default.name}"
        raise UnknownModel(f"no model is called {name!r}", hint=hint)

    def asked(self, name: str) -> str:
        """The model that an engine of another machine means: never what only stands for one. Raises UnknownModel."""
        own = {**self._serving.aliases, **self._folders}
        if name in own or name in registry() or name.startswith(HUB):
            return own.get(name, name)
        raise unknown_model(name, f"this server has {', '.join(own)}, too" if own else "a server opens no folder")

    def folder(self, name: str) -> str | None:
        """The folder that the owner has named, of a model by the name in its recipes; None for any other model."""
        return self._folders.get(name)

    def listed(self) -> list[dict[str, Any]]:
        """The models that are on this machine, the default first; aliases are not among them."""
        names = [self.default.name, *(name for name in registry() if name != self.default.name and _is_here(name))]
        return [self._entry(name) for name in names]

    def described(self, name: str) -> dict[str, Any]:
        """One model, or what an alias stands for, under the name that was asked for. Raises UnknownModel."""
        model = self.meant(name)
        if model != self._serving.model and not _is_here(model):
            raise UnknownModel(f"{name} is not on this machine", hint=f"dalle models pull {model}")
        return self._entry(name)

    def _is_alias(self, name: str) -> bool:
        return self._serving.known_aliases and (name in ALIASES or name.startswith("gpt-image-"))

    def _entry(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._began, "owned_by": "dalle"}


def _folders(models: Iterable[str]) -> dict[str, str]:
    """Those of the models that are folders, by the names that they have in recipes."""
    specs = {model: find(model) for model in models}
    return {spec.name: model for model, spec in specs.items() if spec.source.startswith("folder:")}


def only_base64(name: str | None) -> bool:
    """Whether programs that ask for this model look for base64 alone."""
    return name is not None and name.startswith(ONLY_BASE64)


def _is_here(name: str) -> bool:
    try:
        locate(find(name))
    except DalleError:
        return False
    return True

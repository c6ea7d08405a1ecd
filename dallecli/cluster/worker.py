"""What runs in a worker of a cluster: the engine of its machine, opened once. It knows nothing of Ray.

Only plain data are exchanged until both sides are known to be of one version.
"""

import os
import platform
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dallecli.cluster.order import Able, Answer, Checked, Need, Order, sent
from dallecli.errors import BadFile, DalleError
from dallecli.recipe import Recipe
from dallecli.shortlist import Scores
from dallecli.version import __version__

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture

PASSED: Final = (
    *("DALLE_ENGINE", "DALLE_FAKE_SECONDS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
)
"""The variables of the driver that workers have, too: its pictures are rounded as they say."""


class Worker:
    """An engine elsewhere. `setup` has its options (memory, batch, compiled), and the variables of its environment."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        for name in PASSED:  # Ray has one thread for whom no CPU is reserved, and so would we
            os.environ.pop(name, None)
        os.environ.update(setup["environment"])
        self._setup = setup
        self._names: dict[str, str] = {}
        self._received: dict[str, str] = {}
        self._engine: Any = None

    def facts(self) -> dict[str, Any]:
        """What this worker is, in plain data."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "dallecli": __version__,
            "python": platform.python_version(),
            "torch": _version("torch"),
        }

    def look(self, models: list[str]) -> dict[str, Any]:
        """What this machine has, in plain data: its device, its free memory, and which models are here."""
        from dallecli.placement import decide, free_memory, system_memory

        facts = self.facts()
        try:
            placement = decide(None, None)
            facts |= {"device": placement.name, "dtype": placement.kind, "gpu": _gpu(placement.name)}
            facts |= {"free": free_memory(placement.name), "memory": system_memory().free}
        except DalleError as error:
            facts |= {"device": "none", "dtype": "", "gpu": None, "free": None, "memory": None, "error": error.what}
        return facts | {"models": {name: _state(name) for name in models}}

    def begin(self) -> DalleError | None:
        """Make the engine; what is wrong with its options."""
        from dallecli.studio.choice import choose_engine

        setup = self._setup
        try:
            self._engine = choose_engine(setup["memory"], setup["batch"], compiled=setup["compiled"])
        except DalleError as error:
            return error
        return None

    def check(self, needs: list[Need], pull: bool) -> Checked:
        """Whether this worker can paint these, with the same weights; `pull` fetches a model that is not here."""
        able: list[Able] = []
        try:
            error = self.begin() if self._engine is None else None
            if error is not None:
                return Checked(able=(), error=error)
            for need in needs:
                if pull:
                    _pull(need.recipe.model)
                able.append(self._check(need))
        except DalleError as error:
            return Checked(able=tuple(able), error=error)
        return Checked(able=tuple(able))

    def missing(self, name: str, files: Mapping[str, tuple[int, str]]) -> list[str]:
        """Which files of a model, by name, size and sha256, are to be sent here."""
        from dallecli.cluster.weights import Inbox

        inbox = Inbox(name, files)
        self._received[name] = str(inbox.folder)
        return inbox.missing()

    def receive(self, name: str, files: Mapping[str, tuple[int, str]], file: str, offset: int, data: bytes) -> None:
        """Take a piece of a file of a model. Raises BadFile for other bytes than promised."""
        from dallecli.cluster.weights import Inbox

        Inbox(name, files).take(file, offset, data)

    def paint(self, order: Order) -> Answer:
        """Paint an order. What a picture is to blame for, or this machine, comes back beside the finished pictures."""
        pictures: list[Picture] = []
        error: DalleError | None = None
        try:
            for picture in self._pictures(order):
                pictures.append(picture)
        except DalleError as problem:
            error = problem
        asked = order.recipes[0].model
        named = [replace(picture, recipe=replace(picture.recipe, model=asked)) for picture in pictures]
        return Answer(pictures=sent(named, order), error=error)

    def _pictures(self, order: Order) -> "Iterator[Picture]":
        recipes = [self._here(recipe) for recipe in order.recipes]
        self._engine.expect(recipes)
        if order.together:
            yield from self._engine.paint_together(recipes, _unheard)
            return
        scores = Scores()
        scores.known |= order.known
        yield from self._engine.paint(recipes[0], _unheard, scores)

    def _check(self, need: Need) -> Able:
        engine, recipe = self._engine, need.recipe
        model = self._received.get(recipe.model, need.model)
        if model is not None:
            self._names[recipe.model] = engine.revive(recipe, model).model
        recipe = self._here(recipe)
        _same(engine.digest(recipe), need.digest, recipe.model)
        if need.judge_digest is not None and recipe.settings.judge is not None:
            _same(engine.judge_digest(recipe), need.judge_digest, recipe.settings.judge)
        memory, group = engine.memory(recipe), engine.group(recipe)
        machines = tuple(engine.machine(replace(recipe, together=count + 1)) for count in range(group))
        return Able(machines=machines, group=group, memory=memory)

    def _here(self, recipe: Recipe) -> Recipe:
        """The recipe with the name that its model has here."""
        name = self._names.get(recipe.model)
        return recipe if name is None else replace(recipe, model=name)


def _unheard(_: object) -> None:
    """Steps are not told: the driver hears of pictures."""


def _same(here: str | None, there: str, model: str) -> None:
    if here != there:
        what = f"the weights of {model} are others here than the driver's"
        raise BadFile(what, hint=f"{str(here)[:12]} here, {there[:12]} there; dalle models pull {model}")


def _pull(name: str) -> None:
    """Fetch a model of the registry or the Hub, unless it is here. Raises as `pull`."""
    from dallecli.weights.fetch.pull import pull
    from dallecli.weights.registry import HUB, registry

    spec = registry().get(name)
    if name.startswith(HUB) or (spec is not None and not spec.source.startswith("package:")):
        pull(name, agree=lambda plan: None, report=lambda step: None)


def _state(name: str) -> str:
    """Whether a model is on this machine: its folder, or why not."""
    from dallecli.weights.registry import find, locate

    try:
        return "here" if Path(locate(find(name)).path).is_dir() else "not here"
    except DalleError as error:
        return error.what


def _gpu(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(device))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"

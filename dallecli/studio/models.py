"""The models of this machine that were asked for: found by name or folder, checked once, and kept."""

from dallecli.errors import NotDownloaded, TaskNotSupported, UnknownModel
from dallecli.pipelines.description import Description
from dallecli.weights.layouts import imported
from dallecli.weights.registry import check_recorded, find, locate, with_parts


class Models:
    """The models found so far, by their names in recipes. Finding one never uses the network, and reads no weights."""

    def __init__(self) -> None:
        self._found: dict[str, Description] = {}

    def find(self, name: str, task: str | None = None) -> Description:
        """The model with the name in a request, which may be a folder, for a task that is checked first if given.

        Raises:
            TaskNotSupported: the model is not on this machine, and could not do this if it were pulled.
            UnknownModel: there is none, or another folder of this name was asked for before.
            WeightsError: it is not on this machine, or its files are incomplete.
        """
        spec = find(name)
        known = self._found.get(spec.name)
        if known is not None:
            if known.spec.source != spec.source:
                what = f"two folders of one run are both called {spec.name}"
                raise UnknownModel(what, spec.source, "rename one: recipes go by name")
            return known
        try:
            folder = locate(spec)
        except NotDownloaded as error:
            if task is not None and task not in spec.tasks:
                what = f"{spec.name} cannot {task}, and is not on this machine"
                raise TaskNotSupported(what, hint=f"it can {', '.join(spec.tasks)}") from error
            raise
        description: Description = imported(folder.family.description)(with_parts(spec, folder), folder)
        self._found[spec.name] = description
        return description

    def recorded(self, name: str, task: str | None = None) -> Description:
        """The model with the name in a recipe that was read from a file: found before, registered, or pulled.

        Raises: as `find`, and UnknownModel for a folder.
        """
        if name not in self._found:
            check_recorded(name)
            return self.find(name, task)
        return self._found[name]

    def named(self, name: str) -> Description:
        """The model with the name in a recipe: one that was found before, else as `find`."""
        return self._found[name] if name in self._found else self.find(name)

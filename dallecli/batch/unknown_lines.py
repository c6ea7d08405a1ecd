"""What the models do not know of the lines of a prompt file, collected: a file of many lines gets one warning."""

from dataclasses import dataclass, field

from dallecli.recipe import Recipe
from dallecli.unknown import Asking, Unknown, unknown_notices


@dataclass(slots=True)
class UnknownLines:
    """Words and pictures of all lines, each once, and how many lines have any: `first` is the number of one."""

    lines: int = 0
    first: int = 0
    _last: int = 0
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _fresh: list[Asking] = field(default_factory=list)

    def note(self, line: int, recipe: Recipe) -> None:
        """Remember what the model of a line's request does not know."""
        unknown = recipe.unknown
        if not unknown:
            return
        if line != self._last:
            self.lines, self.first, self._last = self.lines + 1, self.first or line, line
        fresh = Unknown(
            words=self._new(recipe.model, unknown.words), pictures=self._new(recipe.model, unknown.pictures)
        )
        if fresh:
            self._fresh.append(Asking(model=recipe.model, unknown=fresh))

    def notices(self) -> list[str]:
        """What whoever asked should know, with where it is; nothing where everything is known."""
        where = f"line {self.first}" if self.lines == 1 else f"{self.lines} lines, from line {self.first} on"
        return [f"in {where}: {notice}" for notice in unknown_notices(self._fresh)]

    def _new(self, model: str, names: tuple[str, ...]) -> tuple[str, ...]:
        new = tuple(name for name in names if (model, name) not in self._seen)
        self._seen.update((model, name) for name in new)
        return new

"""What is there already when a batch goes on: lines of which every picture is finished are not looked at twice."""

from collections.abc import Callable
from contextlib import suppress

from dallecli.batch.item import Items
from dallecli.batch.jobs import Job
from dallecli.batch.journal import Journal
from dallecli.batch.machines import Kind, kind_of_machine
from dallecli.errors import BadOutput
from dallecli.recipe import Recipe


class Finished:
    """The lines of a prompt file whose pictures are all there, by their numbers: a bit for each.

    journal: what is known of earlier runs; None if there were none. ours: whether a picture with this key is for this
    process. pictures: how many pictures these lines have. machines: what painted pictures that are there, each with a
    recipe of its kind.
    """

    def __init__(self, journal: Journal | None, items: Items, ours: Callable[[str], bool]) -> None:
        self.pictures = 0
        self.machines: dict[tuple[Kind, str], Recipe] = {}
        self._journal = journal
        self._items = items
        self._ours = ours
        self._lines = bytearray()
        self._whole, self._count = False, 0

    def __contains__(self, number: int) -> bool:
        byte, bit = divmod(number, 8)
        return byte < len(self._lines) and bool(self._lines[byte] & 1 << bit)

    def begin(self) -> None:
        """A line begins."""
        self._whole, self._count = self._journal is not None, 0

    def look(self, job: Job, recipe: Recipe) -> None:
        """Look at the pictures of one request of the line."""
        self._whole = self._whole and self._is_there(job, recipe)

    def end(self, number: int) -> None:
        """That was the whole line."""
        if self._whole and self._count:
            byte, bit = divmod(number, 8)
            self._lines.extend(bytes(max(0, byte + 1 - len(self._lines))))
            self._lines[byte] |= 1 << bit
            self.pictures += self._count

    def _is_there(self, job: Job, recipe: Recipe) -> bool:
        assert self._journal is not None
        for key in self._items.keys(job, recipe):
            entry = self._journal.look_up(key) if self._ours(key) else None
            if entry is None or entry.status != "done":
                return False
            with suppress(BadOutput):  # it will be said when the line is painted
                if self._journal.intact(entry):
                    self._count += 1
                    self.machines.setdefault((kind_of_machine(recipe), entry.machine), recipe)
                    continue
            return False
        return True

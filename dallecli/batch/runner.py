"""Paints a prompt file: what is there is skipped, what is done is kept, what fails is written down.

A picture goes this way: resolved, looked up in the journal, claimed, painted together with others like it, encoded,
published, journaled. Only painting is done by the main thread; the last three follow in threads of their own, and no
signal reaches into them.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Final, Protocol

from dallecli.batch.checked import Checked
from dallecli.batch.commits import Commits
from dallecli.batch.execution import Executor, LocalExecutor, Outcome, Painted, Unit, Waiting, together_unit
from dallecli.batch.finished import Finished
from dallecli.batch.item import Item, Items, file_names
from dallecli.batch.jobs import Job, Reader
from dallecli.batch.journal import HIDDEN, Entry, Journal, item_key
from dallecli.batch.machines import Machines, kind_of, together
from dallecli.batch.presence import Presence
from dallecli.batch.prompt_file import BadLine, PromptFile
from dallecli.batch.scores import ScoreFile
from dallecli.batch.unknown_lines import UnknownLines
from dallecli.engine import Engine, Progress
from dallecli.errors import BadOutput, DalleError, DiskFull, OutOfMemory, RequestError
from dallecli.pictures.metadata import check_recipe_fits, read_recipe
from dallecli.pictures.picture import Picture
from dallecli.publish import disk_errors, publish, replacing
from dallecli.recipe import Recipe

FAILED: Final = "failed.jsonl"
"""The file with the lines that make again what failed."""

WAITING: Final = 8
"""Painted pictures that wait for a thread which writes; more of them stop the painting until there is room."""

WRITERS: Final = 8
"""Threads that write what many workers paint: a disk can do several things at once."""

PATIENCE: Final = 4.0
"""Seconds that finished pictures get to reach the disk when somebody wants the process to end."""

OPEN_GROUPS: Final = 8
"""So many times as many pictures as are painted at once are looked at, to find those that can be."""

AHEAD: Final = 64
"""Requests without inputs that the engine hears of before the first of them is painted: see `Engine.expect`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A prompt file, where its pictures go, and how the work is done.

    `shard` (i, n) takes every picture whose key leaves i when divided by n, from 0.
    """

    file: PromptFile
    reader: Reader
    folder: Path
    format: str = "png"
    metadata: bool = True
    force: bool = False
    keep_going: bool = False
    retry_failed: bool = False
    share: bool = False
    shard: tuple[int, int] | None = None

    def is_ours(self, key: str) -> bool:
        """Whether the picture with this key is in our shard."""
        return self.shard is None or int(key[:12], 16) % self.shard[1] == self.shard[0]


@dataclass(slots=True)
class Survey:
    """What a prompt file asks for: bad lines by number, bytes that its largest picture takes, some requests to show.

    `finished` has the lines that need no second look.

    `kinds` has one request of each `kind_of`; `checked` is what the files of the good lines held; `unknown` is what the
    models do not know of them.
    """

    finished: Finished
    lines: int = 0
    bad: set[int] = field(default_factory=set)
    pictures: int = 0
    space: int = 0
    models: dict[str, int] = field(default_factory=dict)
    first: list[tuple[Job, Recipe]] = field(default_factory=list)
    kinds: dict[tuple[object, ...], Recipe] = field(default_factory=dict)
    checked: Checked = field(default_factory=Checked)
    unknown: UnknownLines = field(default_factory=UnknownLines)

    def close(self) -> None:
        """Forget what was in the files."""
        self.checked.close()


@dataclass(slots=True)
class Tally:
    """Pictures by what became of them. `there` were found finished, `others` are another process's work."""

    total: int
    there: int = 0
    done: int = 0
    failed: int = 0
    repeated: int = 0
    others: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> int:
        return max(0, self.total - self.there - self.done - self.failed - self.repeated - self.others)

    @property
    def rate(self) -> float:
        """Pictures a second, in this run."""
        return self.done / max(1e-9, time.monotonic() - self.began)


class Watcher(Protocol):
    """Who wants to know how the work goes on. All of it is called from the main thread."""

    def bad(self, line: BadLine) -> None:
        """A line is wrong."""

    def warn(self, line: int, text: str) -> None:
        """What a line asks for may not be what was meant."""

    def unknown(self, survey: Survey) -> None:
        """All lines have been looked at, or rewritten: what do the models not know of them?"""

    def checked(self, survey: Survey) -> None:
        """Another line has been looked at."""

    def mixed(self, before: str, now: str) -> None:
        """Pictures that are there were painted by another machine than the missing ones will be."""

    def step(self, progress: Progress, tally: Tally) -> None:
        """A step of a stage is done."""

    def working(self, busy: int, workers: int, tally: Tally) -> None:
        """So many workers elsewhere are there, and so many of them paint."""

    def done(self, item: Item, picture: Picture, path: Path, tally: Tally) -> None:
        """A picture is in the journal."""

    def failed(self, item: Item, error: DalleError, tally: Tally) -> None:
        """A picture could not be painted, or not be written."""


def survey(
    batch: Batch, engine: Engine, watcher: Watcher, first: int = 10, *, journal: Journal | None = None
) -> Survey:
    """Look at every line without painting anything; `watcher` hears of the bad ones.

    `first` requests are kept to be shown. With the `journal` of earlier runs, lines that are finished are found.

    Raises: what is not a line's fault, as an absent model.
    """
    found = Survey(finished=Finished(journal, Items(engine, batch.format), batch.is_ours))
    for entry in batch.file.lines():
        if isinstance(entry, BadLine):
            problem: BadLine | None = entry
        else:
            problem = None
            found.finished.begin()
            try:
                for job in batch.reader.jobs(entry):
                    recipe = engine.resolve(job.request)
                    if batch.metadata:
                        check_recipe_fits(recipe)
                    if job.name is not None:
                        found.checked.take_names(file_names(batch.format, job, recipe), job.line)
                    found.checked.note(job, recipe)
                    found.unknown.note(entry.number, recipe)
                    for notice in (*job.doubts, *recipe.notices):
                        watcher.warn(entry.number, notice)
                    found.pictures += recipe.count
                    found.space = max(found.space, 2 * 3 * recipe.size.pixels)
                    found.models[recipe.model] = found.models.get(recipe.model, 0) + recipe.count
                    kind = kind_of(recipe)
                    if kind not in found.kinds:
                        found.kinds[kind] = recipe
                    if len(found.first) < first:
                        found.first.append((job, recipe))
                    found.finished.look(job, recipe)
                found.finished.end(entry.number)
            except RequestError as error:
                problem = bad_line(entry.number, error, entry.text)
        found.lines += 1
        if problem is not None:
            found.bad.add(problem.number)
            watcher.bad(problem)
        watcher.checked(found)
    watcher.unknown(found)
    return found


def bad_line(number: int, error: DalleError, text: str) -> BadLine:
    """A line that makes no request, with the error's facts as the reason."""
    where = f" ({error.where})" if error.where is not None else ""
    hint = f"; {error.hint}" if error.hint is not None else ""
    return BadLine(number=number, reason=f"{error.what}{where}{hint}", text=text)


class Runner:
    """One run over a batch. `journal` and `presence` are those of its folder."""

    def __init__(
        self,
        batch: Batch,
        engine: Engine,
        journal: Journal,
        presence: Presence,
        watcher: Watcher,
        found: Survey,
        executor: Executor | None = None,
    ) -> None:
        """`engine` resolves, and says what paints; it paints by itself unless there is an `executor`."""
        self.batch = batch
        self.engine = engine
        self.journal = journal
        self.presence = presence
        self.watcher = watcher
        self._root = batch.folder.resolve()
        self.tally = Tally(total=found.pictures, there=found.finished.pictures)
        self._found = found
        found.unknown = UnknownLines()  # what was found out before was told
        self._items = Items(engine, batch.format)
        self._pending: set[str] = set()
        self._scores: dict[int, tuple[ScoreFile, set[str]]] = {}
        self._groups: dict[str, list[Item]] = {}
        self._sizes: dict[str, int] = {}
        self._machines = Machines(watcher.mixed)
        for (_, machine), recipe in found.finished.machines.items():
            self._machines.painted(recipe, machine)
        self._executor = executor if executor is not None else LocalExecutor(engine, self._step)
        self._commits = Commits(journal)
        self._waiting = WAITING * (1 if executor is None else WRITERS)
        self._disk = ThreadPoolExecutor(1 if executor is None else WRITERS, thread_name_prefix="disk")
        self._writing: deque[tuple[Item, Picture, Future[Path]]] = deque()

    def run(self) -> Tally:
        """Paint what is not there yet.

        Whatever ends this early, pictures that are painted are published and journaled first.

        Raises:
            DiskFull, WeightsError, MachineError: going on makes no sense.
        """
        try:
            for items in self._announced(self._work()):
                self._take(items)
            for group in list(self._groups.values()):
                self._paint_group(group)
            for outcome in self._executor.finish():
                self._take_outcome(outcome)
            while self._writing:
                self._settle(wait_for_one=True)
            self.watcher.unknown(self._found)
        except BaseException as error:
            try:
                if not isinstance(error, Exception):  # a signal
                    self._drain()
            finally:
                wait([future for _, _, future in self._writing], timeout=PATIENCE)
            # Who reads our results may be gone, and the first error is the one that counts.
            with suppress(DalleError):
                self._settle(wait_for_one=False)
            raise
        finally:
            self._disk.shutdown(wait=False, cancel_futures=True)
        return self.tally

    def _drain(self) -> None:
        """Take what is being painted elsewhere, as far as it comes in time."""
        with suppress(DalleError):
            for outcome in self._executor.drain():
                if isinstance(outcome, Painted):
                    self._hand_over(outcome.item, outcome.picture)

    def _work(self) -> Iterator[list[Item]]:
        """The pictures of each request that are to be painted, claimed."""
        for entry in self.batch.file.lines():
            if isinstance(entry, BadLine) or entry.number in self._found.bad or entry.number in self._found.finished:
                continue
            come = 0
            try:
                for job in self.batch.reader.jobs(entry):
                    recipe = self.engine.resolve(job.request)
                    self._found.checked.compare(job, recipe)
                    if recipe.rewritten is not None:  # other words than those that were looked at before
                        self._found.unknown.note(entry.number, recipe)
                    come += recipe.count
                    yield [item for item in self._items.of(job, recipe) if self._is_mine(item)]
            except RequestError as error:
                # The check found it good: a file that it names has changed since.
                self.tally.failed += max(1, self._found.checked.pictures(entry.number) - come)
                self.watcher.bad(bad_line(entry.number, error, entry.text))

    def _announced(self, work: Iterable[list[Item]]) -> Iterator[list[Item]]:
        """The same pictures, of which the engine hears some time before they are painted, if it saves work.

        Of requests with inputs, which are large, and of work that is shared, no more are claimed than are painted next.
        """
        waiting: list[list[Item]] = []
        for items in filter(None, work):
            waiting.append(items)
            recipe = items[0].recipe
            at_once = self.presence.share or recipe.inputs or not self.engine.reads_ahead(recipe)
            if at_once or len(waiting) == AHEAD:
                yield from self._told(waiting)
                waiting = []
        if waiting:
            yield from self._told(waiting)

    def _told(self, waiting: list[list[Item]]) -> list[list[Item]]:
        self.engine.expect([items[0].recipe for items in waiting])
        return waiting

    def _is_mine(self, item: Item) -> bool:
        """Whether this run has to paint a picture; if so, it is claimed."""
        if not self.batch.is_ours(item.key):
            self.tally.others += 1
        elif item.key in self._pending:
            self.tally.repeated += 1
        elif self._is_settled(item):
            pass
        elif not self.presence.claim(item.key):
            self.tally.others += 1
        else:
            if self.presence.share:
                # Another process may have finished it between the look and the claim.
                self.journal.catch_up()
                if self._is_settled(item):
                    self.presence.release(item.key)
                    return False
            self._pending.add(item.key)
            return True
        return False

    def _is_settled(self, item: Item) -> bool:
        """Whether the journal knows what became of a picture, and that is still so."""
        entry = self.journal.look_up(item.key)
        if entry is None:
            return False
        if entry.status != "done":
            if self.batch.retry_failed:
                return False
            self.tally.failed += 1
            return True
        intact = self.journal.intact(entry)
        if intact is False and not self.batch.force:
            path = str(self.batch.folder / entry.file)
            error = BadOutput("this picture was changed since it was painted", path, "move it away, or use --force")
            self.tally.failed += 1
            self.watcher.failed(item, error, self.tally)
            return True
        if intact:
            self.tally.there += 1
            self._machines.painted(item.recipe, entry.machine)
        return bool(intact)

    # Painting

    def _take(self, items: Sequence[Item]) -> None:
        """Put pictures with their like, or paint them now where there is no like."""
        if not items:
            return
        recipe = items[0].recipe
        self._machines.paint(recipe, self.engine)
        best_of = recipe.settings.best_of is not None
        if best_of or not recipe.single(0).has_company:
            self._paint_alone(items, whole=best_of or len(items) == recipe.count)
            return
        for item in items:
            alike = item.recipe.single(item.k).alike
            assert alike is not None  # as the first one's is not
            kind = alike.to_json()
            group = self._groups.setdefault(kind, [])
            group.append(item)
            if kind not in self._sizes:
                self._sizes[kind] = self.engine.group(item.recipe)
            size = self._sizes[kind]
            if len(group) >= size:
                self._paint_group(self._groups.pop(kind))
            elif sum(len(waiting) for waiting in self._groups.values()) > OPEN_GROUPS * size:
                self._paint_group(self._groups.pop(max(self._groups, key=lambda kind: len(self._groups[kind]))))

    def _paint_group(self, items: Sequence[Item]) -> None:
        self._paint(together_unit(items))

    def _paint_alone(self, items: Sequence[Item], *, whole: bool) -> None:
        """Paint a request at once, or the pictures of it that are missing one by one."""
        recipe = items[0].recipe
        if not whole:
            for item in items:
                self._paint(Unit(recipes=(recipe.single(item.k),), items=(item,), together=False))
            return
        wanted = {item.k: item for item in items}
        scores = self._scores_of(recipe, items) if recipe.settings.best_of is not None else None
        all_of_it = tuple(wanted.get(k) for k in range(recipe.count))
        self._paint(Unit(recipes=(recipe,), items=all_of_it, together=False, scores=scores))

    def _paint(self, unit: Unit) -> None:
        for outcome in self._executor.paint(unit):
            self._take_outcome(outcome)

    def _take_outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome, Painted):
            self._hand_over(outcome.item, outcome.picture)
        elif isinstance(outcome, Waiting):
            self._settle(wait_for_one=False)
            self.watcher.working(outcome.busy, outcome.workers, self.tally)
        elif outcome.unit.together and len(outcome.places) > 1:
            # One of them is to blame, and the others shall not suffer for it.
            for place in outcome.places:
                self._paint(outcome.unit.alone(place))
        else:
            for item in outcome.items:
                self._give_up(item, outcome.error)

    def _scores_of(self, recipe: Recipe, items: Sequence[Item]) -> ScoreFile:
        """The scores of a best-of, on disk until all `items` are in the journal."""
        scores = ScoreFile(self.batch.folder / HIDDEN / f"scores-{item_key(recipe, 0, '')}.jsonl")
        self._scores[id(recipe)] = scores, {item.key for item in items}
        return scores

    def _step(self, progress: Progress) -> None:
        self._settle(wait_for_one=False)
        self.watcher.step(progress, self.tally)

    def _give_up(self, item: Item, error: DalleError) -> None:
        """Write down that a picture cannot be painted; where none can, there is no sense in going on."""
        if isinstance(error, OutOfMemory) and self.tally.done == 0:
            raise error
        self._fail(item, error)

    # Writing

    def _hand_over(self, item: Item, picture: Picture) -> None:
        while len(self._writing) >= self._waiting:
            self._settle(wait_for_one=True)
        used = picture.recipe
        if used.together is not None:  # the last group may have been smaller
            used = replace(used, together=together(item.recipe, self.engine))
        machine = used.machine
        self._writing.append((item, picture, self._disk.submit(self._write, item, picture, machine)))

    def _write(self, item: Item, picture: Picture, machine: str) -> Path:
        """Encode, publish and journal a picture: in the other thread."""
        data = picture.encode(self.batch.format, metadata=self.batch.metadata)
        path = self.batch.folder / item.file
        self._publish(path, data, picture)
        status = path.stat()
        recipe = picture.recipe
        entry = replace(
            _entry(item, recipe, "done"),
            file=item.file,
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            mtime_ns=status.st_mtime_ns,
            machine=machine,
            seconds=round(picture.seconds, 3),
            scores={name: round(score, 6) for name, score in picture.scores.items()},
            warnings=recipe.warnings,
        )
        self._note(entry)
        return path

    def _publish(self, path: Path, data: bytes, picture: Picture) -> None:
        """Give a picture its name. What a killed run has published and not journaled is the picture already."""
        with disk_errors(path):
            if path.parent != self.batch.folder and not path.parent.resolve().is_relative_to(self._root):
                raise BadOutput("a link leads out of the output folder", where=str(path.parent))
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            publish(path, data, force=self.batch.force)
        except BadOutput:
            if path.is_symlink() or not _holds(path, data, picture):
                raise

    def _settle(self, *, wait_for_one: bool) -> None:
        """Tell of the pictures that have reached the disk. Raises DiskFull, and what is a mistake of ours."""
        while self._writing and (wait_for_one or self._writing[0][2].done()):
            item, picture, future = self._writing[0]
            wait([future])  # here a signal leaves everything as it is
            self._writing.popleft()
            wait_for_one = False
            try:
                path = future.result()
            except DiskFull:
                raise
            except RequestError as error:
                self._fail(item, error)
            else:
                self._settled(item)
                self.tally.done += 1
                self.watcher.done(item, picture, path, self.tally)

    def _fail(self, item: Item, error: DalleError) -> None:
        entry = _entry(item, item.recipe, "failed")
        self._note(replace(entry, error=error.facts(), again=dict(item.job.values)))
        self._settled(item)
        self.tally.failed += 1
        self.watcher.failed(item, error, self.tally)

    def _settled(self, item: Item) -> None:
        """A picture is in the journal; with the last one of a best-of its scores go."""
        self._pending.discard(item.key)
        scores, left = self._scores.get(id(item.recipe), (None, set()))
        left.discard(item.key)
        if scores is not None and not left:
            scores.remove()
            del self._scores[id(item.recipe)]

    def _note(self, entry: Entry) -> None:
        """Write down what became of a picture, and only then leave it to others."""
        self._commits.append(entry)
        self.presence.release(entry.key)


def _entry(item: Item, recipe: Recipe, status: str) -> Entry:
    """What the journal says of every picture; `recipe` is the one it was painted by, or should have been."""
    return Entry(
        key=item.key,
        status=status,
        line=item.job.line,
        prompt=recipe.prompt if recipe.prompt else str(recipe.settings.class_name or ""),
        seed=recipe.seed,
        model=recipe.model,
        asked=recipe.rewritten.asked if recipe.rewritten is not None else "",
    )


def write_failures(folder: Path, bad: Iterable[str], journal: Journal) -> int:
    """Replace `FAILED` by the lines of everything that failed: `bad` ones as they are, and the journal's. How many."""
    target = folder / FAILED
    # Several pictures of one request have one line.
    lines = chain(bad, (line for line, _ in groupby(json.dumps(entry.again) for entry in journal.failures())))
    count = 0
    with disk_errors(target):
        first = next(lines, None)
        if first is None:
            target.unlink(missing_ok=True)
            return 0
        with replacing(target) as file:
            for line in chain([first], lines):
                file.write(f"{line}\n".encode())
                count += 1
    return count


def _holds(path: Path, data: bytes, picture: Picture) -> bool:
    """Whether a file is that picture, to the last bit or at least by its recipe."""
    try:
        if path.read_bytes() == data:
            return True
        return replace(read_recipe(path), scores={}) == replace(picture.recipe, scores={})
    except (OSError, DalleError):
        return False

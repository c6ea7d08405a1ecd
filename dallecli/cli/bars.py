"""What people see of a training: a progress bar for each stage."""

from typing import TYPE_CHECKING

from dallecli.safe import safe

if TYPE_CHECKING:
    from dallecli.training.loop import Report


class Bars:
    """A bar a stage on stderr: the share of its budget, the loss, the speed. Sparse lines without a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True, quiet=quiet)
        self._plain = not console.is_terminal
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=self._plain or quiet,
        )
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, report: "Report") -> None:
        """Move the bar of the report's stage."""
        held_out = "".join(f"  {name} {value:.3f}" for name, value in report.figures.items())
        speed = f"step {report.counters.step}  loss {report.loss:.4f}  {report.samples_per_second:.0f}/s"
        self._move(report.name, report.done, 1.0, speed)
        if held_out or self._plain:
            self._console.print(f"{report.name}  {speed}{held_out}", markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning above the bars."""
        self.note(f"warning: {safe(text, limit=None)}")

    def count(self, done: int, of: int) -> None:
        """Move the bar of pictures that are being processed."""
        self._move("pictures", done, of, f"{done}/{of}")

    def _move(self, name: str, done: float, of: float, figures: str) -> None:
        from rich.progress import TaskID

        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=of, figures=figures)
        self._bars.update(TaskID(self._tasks[name]), completed=done, total=of, figures=figures)

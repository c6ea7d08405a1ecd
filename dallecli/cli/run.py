"""How one run of a painting command goes, whatever it paints."""

from dataclasses import KW_ONLY, dataclass

from dallecli.cli.settings import choose_engine
from dallecli.engine import Engine


@dataclass(frozen=True, slots=True)
class Run:
    """The options that all painting commands share: how the engine works, and what is seen and kept of the run.

    They change no picture, but for what is rounded in another way where `batch` pictures are painted at a time or
    networks are compiled. What is painted is in a request, where it goes in an Output (output.py), and how a prompt
    file is worked through in a Manner (prompts.py).
    """

    memory: str
    batch: int | None = None
    compiled: bool = False
    _: KW_ONLY
    preview: bool
    as_json: bool
    quiet: bool
    history: bool
    dry_run: bool = False

    def engine(self) -> Engine:
        """The engine that paints so. Raises as `choose_engine`."""
        return choose_engine(self.memory, self.batch, compiled=self.compiled)

"""How one run of a painting command goes, whatever it paints."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The options that all painting commands share: how the engine works, and what is seen and kept of the run.

    They change no picture, but for the last level of a colour where `batch` pictures are painted at a time, or
    networks are compiled. What is painted is in a request, where it goes in an Output (output.py), and how a prompt
    file is worked through in a Manner (prompts.py).
    """

    memory: str
    preview: bool
    as_json: bool
    quiet: bool
    history: bool
    dry_run: bool = False
    batch: int | None = None
    compiled: bool = False

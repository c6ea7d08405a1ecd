"""What a run leaves to look at: `log.jsonl`, sheets of samples, and TensorBoard's event files where it is installed."""

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from dallecli.pictures.sheets import grid
from dallecli.publish import open_own, publish

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"

SHOWN = 128
"""The least side in pixels of a picture on a sheet of samples."""


class Log:
    """The log of a run in `folder`, which continues after `step`.

    A killed run continues from its last checkpoint: lines of later steps are removed, because those steps are taken
    again. `events` is a folder for TensorBoard, or None.
    """

    def __init__(self, folder: Path, step: int, events: Path | None = None) -> None:
        """Raises BadOutput if the log is a link, or anything but a regular file."""
        self._file = folder / LOG
        os.close(open_own(self._file, os.O_WRONLY | os.O_APPEND))
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _step(line) <= step]
        if len(kept) < len(lines):
            publish(self._file, "".join(kept).encode(), force=True)
        self._writer = _writer(events, step) if events is not None else None

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Add a line; a figure that is no number is null there. Raises OSError."""
        plain = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        with self._file.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, **plain}) + "\n")
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def show(self, step: int, sheet: Image.Image) -> None:
        """Add a sheet of pictures; only TensorBoard keeps it."""
        if self._writer is not None:
            self._writer.add_image("samples", np.asarray(sheet), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def sheet_of(samples: Tensor | None) -> Image.Image | None:
    """Return pictures [n 3 h w] in [-1, 1] as one sheet, small ones enlarged so that their pixels can be seen."""
    if samples is None:
        return None
    pixels = ((samples.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    side = max(SHOWN, pixels.shape[1])
    return grid([Image.fromarray(one).resize((side, side), Image.Resampling.NEAREST) for one in pixels])


def _step(line: str) -> int:
    try:
        step: int = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return 2**62  # a line that a kill or a full disk cut short
    return step


def _writer(events: Path, step: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(events), purge_step=step + 1)

"""Every family that paints from noise: who writes a model folder of it, with random weights."""

from collections.abc import Callable
from pathlib import Path

import adm_oracle
import glide_oracle
import if_oracle
import kandinsky_oracle
import oracle
import stable_oracle

WRITERS: dict[str, Callable[[Path], Path]] = {
    "karlo": lambda folder: oracle.write(folder, next(iter(oracle.SHAPES.values()))),
    "kandinsky": kandinsky_oracle.write,
    "stable-unclip": stable_oracle.write,
    "glide": glide_oracle.write,
    "if": if_oracle.write,
    "adm": adm_oracle.write,
}

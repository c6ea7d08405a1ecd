"""The tasks by name: what registries, recipes, prompt lines and the command line call them."""

from collections.abc import Mapping
from typing import Final

from dallecli.tasks.coding import CODING
from dallecli.tasks.edit import Edit, Editing
from dallecli.tasks.embed import COMPARING
from dallecli.tasks.generate import Generate, Generating
from dallecli.tasks.inpaint import Inpaint, Inpainting
from dallecli.tasks.interpolate import Interpolate, Interpolating
from dallecli.tasks.task import Settings
from dallecli.tasks.vary import Vary, Varying

TASKS: Final[Mapping[str, type[Generate | Vary | Interpolate | Inpaint | Edit]]] = {
    task.task: task for task in (Generate, Vary, Interpolate, Inpaint, Edit)
}
"""The request of each task."""

SETTINGS: Final[Mapping[str, type[Settings]]] = {
    Generate.task: Generating,
    Vary.task: Varying,
    Interpolate.task: Interpolating,
    Inpaint.task: Inpainting,
    Edit.task: Editing,
}
"""What a recipe of each task holds besides what all have."""

ABILITIES: Final = (*TASKS, *CODING, *COMPARING)
"""What models can do: the tasks, and what is no painting and has no recipe."""

"""What a model can do, for who wants to show it: its tasks, sizes and dials, and the words or classes that it knows."""

from dataclasses import asdict
from typing import Any, Final

from dallecli.server.dials import DIALS
from dallecli.server.names import Names
from dallecli.size import Proportions
from dallecli.sizing import settle_size
from dallecli.tasks.stages import PRIOR_KINDS, PRIORS, DiffusionSettings, Stage
from dallecli.tasks.task import EFFORTS
from dallecli.weights.known import read_classes, read_words
from dallecli.weights.registry import SAMPLERS, ModelSpec, find, locate

_PREFIXES: Final = {"prior": "prior_", "decoder": "", "upsampler": "upsampler_"}

PROPORTIONS: Final = tuple(Proportions(*sides) for sides in ((3, 2), (2, 3), (16, 9), (9, 16)))
"""Those of pictures that are offered besides squares."""

_LIMITS: Final[dict[str, dict[str, Any]]] = {
    "steps": {"kind": "whole", "least": 2, "most": 1000},
    "guidance": {"kind": "number", "least": 0, "most": 30, "step": 0.5},
    "guidance_start": {"kind": "number", "least": 0, "most": 1, "step": 0.05},
    "guidance_stop": {"kind": "number", "least": 0, "most": 1, "step": 0.05},
    "reuse": {"kind": "whole", "least": 1, "most": 10},
    "sampler": {"kind": "choice", "choices": list(SAMPLERS)},
    "temperature": {"kind": "number", "least": 0, "most": 2, "step": 0.05},
    "top_k": {"kind": "whole", "least": 0},
    "top_p": {"kind": "number", "least": 0, "most": 1, "step": 0.01},
}
"""How a dial is set; `least` and `most` are what is sensible, and the server checks what is sent."""


def abilities(names: Names, name: str) -> dict[str, Any]:
    """What a model can do. Raises: as `find` and `locate`."""
    spec = find(names.meant(name))
    folder = locate(spec).path
    words, classes = read_words(folder), read_classes(folder)
    return {
        "id": name,
        "description": spec.description,
        "tasks": list(spec.tasks),
        "sizes": list(spec.sizes),
        "largest": spec.largest,
        "prompts": spec.prompts,
        "knows": "classes" if classes is not None else "words" if words is not None else None,
        "dials": _dials(spec),
    }


def words_of(names: Names, name: str) -> dict[str, Any]:
    """The words that a model knows, by kind, or its classes; None of either where it has no list of them.

    Raises: as `find` and `locate`.
    """
    folder = locate(find(names.meant(name))).path
    words, classes = read_words(folder), read_classes(folder)
    kinds = None
    if words is not None:
        kinds = {kind: [[first, *more] for first, more in said.items()] for kind, said in words.kinds.items()}
    listed = None if classes is None else [classes.name(number) for number in range(len(classes))]
    return {"kinds": kinds, "classes": listed}


def _dials(spec: ModelSpec) -> list[dict[str, Any]]:
    """The dials of its stages, each once, with its own values; and those of the whole model.

    `priors` are the kinds of prior that have the dial; None for one that has nothing to do with the prior.
    """
    found: dict[str, dict[str, Any]] = {}
    for stage in spec.declared:
        kind = next((kind for kind, prior in PRIORS.items() if prior.name == stage.name), None)
        own = asdict(spec.stages[stage.name]) if stage.name in spec.stages else {}
        for dial in stage.dials:
            name = f"{_PREFIXES[stage.group]}{dial}"
            if name not in DIALS or dial not in own or (dial == "guidance" and not stage.guided):
                continue
            facts = {"name": name, "own": own[dial], "priors": None if kind is None else [], **_LIMITS[dial]}
            known = found.setdefault(name, facts)
            if kind is not None:
                known["priors"].append(kind)
    return [*_of_all(spec), *found.values()]


def _of_all(spec: ModelSpec) -> list[dict[str, Any]]:
    """The dials that are not of one stage."""
    whole = [_choice("size", _sizes(spec), str(spec.sizes[-1]))]
    if any(isinstance(own, DiffusionSettings) for own in spec.stages.values()):
        whole.append(_choice("effort", list(EFFORTS), None))
    priors = [kind for kind, stage in PRIORS.items() if stage in spec.declared]
    if priors:
        whole.append(_choice("prior", [*priors, PRIOR_KINDS[-1]], priors[0]))
        facts = {"kind": "whole", "least": 1, "most": 64, "own": spec.prior_candidates, "priors": priors}
        whole.append({"name": "prior_candidates", **facts})
    if spec.prompts and any(_reads(stage) for stage in spec.declared):
        whole.append({"name": "negative", "kind": "text", "own": None, "priors": None})
    return whole


def _sizes(spec: ModelSpec) -> list[str]:
    """The squares that a model paints, and its largest pictures of usual proportions."""
    sizes = [str(side) for side in spec.sizes]
    for proportions in PROPORTIONS:
        found = settle_size(proportions, spec)
        sizes.append(str(found.crop if found.crop is not None else found.size))
    return sizes


def _choice(name: str, choices: list[str], own: str | None) -> dict[str, Any]:
    return {"name": name, "kind": "choice", "choices": choices, "own": own, "priors": None}


def _reads(stage: Stage) -> bool:
    """Whether guidance leads it away from other words."""
    return stage.guided and stage.settings is DiffusionSettings

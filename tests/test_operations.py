"""What a step costs, counted: operations of torch, and among them copies. Noise-free, so that growth cannot hide.

Each stage of the starter runs with few steps, as the others do, and with more; the difference is what a step takes,
net, guidance and sampler together. The counts are those of the pinned torch. Who makes a step cheaper lowers them; who
has to raise one says why.
"""

from collections import Counter
from dataclasses import replace

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials

STEPS = {"prior": (115, 0), "decoder": (316, 0), "upsampler": (440, 0)}
"""For each stage: operations a step, and how many of them copy. "upsampler" is both upsamplers together."""

COPIES = {"copy_", "clone", "_to_copy"}
FEW, MORE = 4, 9


class Counting(TorchDispatchMode):
    """Counts the operations that do work: all but those that only look at memory in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.counted[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


ASKED = Generate(
    prompt="a red fox on a skateboard",
    model="starter",
    seed=1,
    dtype="fp32",
    **{stage: Dials(steps=FEW) for stage in STEPS},
)


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return LocalEngine()


@pytest.fixture(scope="module")
def few(engine: LocalEngine) -> Counter[str]:
    return operations(engine, ASKED)


def operations(engine: LocalEngine, request: Generate) -> Counter[str]:
    recipe = engine.resolve(request)
    list(engine.paint(recipe, lambda _: None))  # so that nothing is counted that only the first picture needs
    with Counting() as mode:
        list(engine.paint(recipe, lambda _: None))
    return mode.counted


@pytest.mark.parametrize("stage", STEPS)
@pytest.mark.long
def test_a_step_takes_no_more_operations_than_it_did(engine, few, stage):
    more = operations(engine, replace(ASKED, **{stage: Dials(steps=MORE)}))
    grown = {name: more[name] - few[name] for name in more if more[name] != few[name]}
    assert all(count % (MORE - FEW) == 0 for count in grown.values()), grown
    a_step = {name: count // (MORE - FEW) for name, count in grown.items()}
    copies = sum(count for name, count in a_step.items() if name in COPIES)
    most, most_copies = STEPS[stage]
    report = ", ".join(f"{count} {name}" for name, count in Counter(a_step).most_common())
    assert sum(a_step.values()) <= most, report
    assert copies <= most_copies, report

"""What a step frees is there for the next one, and weights find a heap without holes."""

import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"

# A process of its own, because how memory is handed out is the process's.
CODE = """
import resource
import torch
from dallecli.diffusion.noise import Noise
from dallecli.pipelines.allocator import return_freed, trim
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.stage import Diffusion, sample
from dallecli.request import StageSettings
from dallecli.weights.registry import find, locate

torch.set_num_threads(1)
PAGES = 100 * 2**20 // resource.getpagesize()
faults = []

def predict(x, place):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(PAGES * resource.getpagesize(), dtype=torch.uint8).fill_(1)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return torch.cat([x, x], dim=1)

parts = Parts(locate(find("starter")), torch.device("cpu"), torch.float32)
diffusion = Diffusion(
    stage="decoder", shape=(3, 4, 4), schedule=parts.schedule("decoder_scheduler"), guidance=1.0,
    nets=lambda dtype, ts: (predict, None),
)
settings = StageSettings(sampler="ddim", steps=20, guidance=1.0)
with torch.inference_mode():
    sample(parts, diffusion, settings, Noise([1]), lambda *_: None)
return_freed()
trim(parts.device)
for _ in range(2):
    predict(torch.zeros(1, 1), 0)
print(*(count / PAGES for count in faults))
"""


@pytest.mark.skipif(not GLIBC, reason="other C libraries are left alone")
def test_once_weights_are_in_place_pages_are_used_again_and_when_weights_come_they_are_not():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    first, *steps, before, after = (float(share) for share in done.stdout.split())
    assert first > 0.9  # every page is new
    assert sum(steps) < 4  # of 19, because something small may lie in the way of something large
    assert min(before, after) > 0.9

"""Two trainings in one folder: the second is refused, and a first that was killed is in nobody's way."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli.conftest import environment, process

from dallecli.errors import FolderInUse
from dallecli.training.alone import alone

HOLD = "import sys\nfrom pathlib import Path\nfrom dallecli.training.alone import alone\n" + (
    "with alone(Path(sys.argv[1])):\n    print('in', flush=True)\n    sys.stdin.read()\n"
)


def test_another_process_is_kept_out_until_the_first_is_gone_even_by_a_kill(tmp_path):
    line = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        with pytest.raises(FolderInUse, match="another process is training here"), alone(tmp_path / "run"):
            pass
        first.kill()
    with alone(tmp_path / "run"):
        pass


@pytest.mark.long
def test_a_starter_stage_without_what_it_needs_leaves_nothing_behind(tmp_path):
    state = tmp_path / "state"
    done = process("train", "starter", "--preset", "tiny", "--stage", "prior", "--state", str(state), "--device", "cpu")
    assert done.code == 3
    assert "the clip has not been trained yet" in done.err
    assert [path for path in Path(state).rglob("*") if path.is_file()] == []

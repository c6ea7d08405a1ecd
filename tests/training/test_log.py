"""The log of a run."""

import json

import pytest

from dallecli.errors import BadOutput
from dallecli.training.log import LOG, Log


def test_a_log_continues_after_its_step_and_forgets_later_ones(tmp_path):
    log = Log(tmp_path, 0)
    for step in (10, 20, 30):
        log.add(step, {"loss": 0.5})
    Log(tmp_path, 20).add(21, {"loss": 0.25})
    steps = [json.loads(line)["step"] for line in (tmp_path / LOG).read_text(encoding="utf-8").splitlines()]
    assert steps == [10, 20, 21]


def test_a_log_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine", encoding="utf-8")
    (tmp_path / LOG).symlink_to("precious")
    with pytest.raises(BadOutput, match="this is a link"):
        Log(tmp_path, 0)
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "mine"

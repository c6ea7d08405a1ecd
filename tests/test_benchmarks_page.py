"""The page of benchmarks says what was measured and nothing else."""

import json
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MACHINE = {
    "processor": "Some CPU",
    "cores": 4,
    "threads": 2,
    "capability": "AVX2",
    "python": "3.11.0",
    "torch": "2.13.0",
    "diffusers": "0.42.1",
}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import report

    return report


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import measuring

    return measuring


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import starter

    return starter


def side(first: float, *steps: float) -> dict[str, Any]:
    return {"first": [first] * len(steps), "step": list(steps), "memory": 2 * 10**9}


def stage(calls: int, ours: dict[str, Any], diffusers: dict[str, Any]) -> dict[str, Any]:
    peaks = {"gemm": 0.5, "conv": 0.25}
    return {"calls": calls, "steps": 2, "tflop": 1.0, "peaks": peaks, "ours": ours, "diffusers": diffusers}


def measured(table: str, script: str, **figures: Any) -> dict[str, Any]:
    return {"table": table, "machine": MACHINE, "command": f"python benchmarks/{script}", "rounds": 3, **figures}


def kandinsky(**stages: dict[str, Any]) -> dict[str, Any]:
    return model("kandinsky", "bf16", **stages)


def model(name: str, dtype: str, **stages: dict[str, Any]) -> dict[str, Any]:
    return {
        **measured("stages", f"stages.py {name}"),
        "model": name,
        "dtype": dtype,
        "batch": 1,
        "stages": stages,
    }


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_is_what_the_report_makes_of_the_committed_figures(report: ModuleType) -> None:
    machines = report.machines(ROOT / "docs" / "benchmarks")
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == report.page(machines), (
        "run: python benchmarks/report.py"
    )


def test_committed_figures_name_no_folder_of_the_machine_that_they_are_from() -> None:
    for file in (ROOT / "docs" / "benchmarks").glob("*.json"):
        for table in json.loads(file.read_text(encoding="utf-8")).values():
            words = [part for word in shlex.split(table["command"]) for part in word.split("=")]
            assert not [word for word in words if word.startswith(("/", "~"))]
            assert not {"--folder", "--json", "--state"} & set(words)


def test_a_recorded_command_leaves_out_where_things_are(measuring: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["/a/stages.py", "karlo", "--folder", "/a", "--json=/b", "--dtype", "fp32", "--only=prior"]
    monkeypatch.setattr("sys.argv", given)
    recorded = measuring.command_line("folder", "json")
    assert recorded == "python benchmarks/stages.py karlo --dtype fp32 --only=prior"


def test_an_option_that_is_cut_short_is_refused_and_so_not_recorded(measuring: ModuleType) -> None:
    parser = measuring.parser("What it measures.")
    parser.add_argument("--folder")
    assert parser.parse_args(["--folder", "/a"]).folder == "/a"
    with pytest.raises(SystemExit):
        parser.parse_args(["--fold", "/a"])


def test_no_benchmark_makes_a_parser_that_takes_options_cut_short() -> None:
    for file in (ROOT / "benchmarks").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert text.count("ArgumentParser(") == text.count("allow_abbrev=False"), file.name


def test_a_row_has_medians_and_the_median_of_each_rounds_ratio(report: ModuleType) -> None:
    figures = kandinsky(decoder=stage(50, side(9.0, 4.0, 5.0, 6.0), side(9.0, 16.0, 5.0, 12.0)))
    text = report.page({"a-machine": {"kandinsky bf16": figures}})
    cells = row(text, "decoder")
    assert cells[1:6] == ["50", "1.00", "5", "12", "**2.00**"]
    assert cells[6:8] == ["40%", "17%"]  # 1 TFLOP in 5 s, of 0.5 TFLOP/s


def test_the_projection_takes_the_first_step_of_a_run_once(report: ModuleType) -> None:
    figures = kandinsky(
        decoder=stage(50, side(9.0, 1.0), side(4.0, 2.0)), autoencoder=stage(1, side(3.0, 3.0), side(8.0, 8.0))
    )
    cells = row(report.page({"a-machine": {"kandinsky bf16": figures}}), "all steps, projected")
    assert cells[2:6] == ["51.0", "61", "110", "**1.80**"]


def test_there_is_no_projection_where_a_stage_was_not_measured(report: ModuleType) -> None:
    figures = kandinsky(decoder=stage(50, side(9.0, 1.0), side(4.0, 2.0)))
    assert "projected" not in report.page({"a-machine": {"kandinsky bf16": figures}})


def test_every_table_says_by_what_command_and_on_what_it_was_measured(report: ModuleType) -> None:
    figures = kandinsky(decoder=stage(50, side(9.0, 1.0), side(4.0, 2.0)))
    text = report.page({"a-machine": {"kandinsky bf16": figures}})
    assert "\n## a-machine\n" in text
    assert (
        "`python benchmarks/stages.py kandinsky`, rounds: 3; 2 of 4 cores of Some CPU (AVX2), Python 3.11.0,"
        " torch 2.13.0, diffusers 0.42.1." in text
    )


def test_a_call_of_the_starter_stands_beside_the_same_of_diffusers(report: ModuleType) -> None:
    warm = {
        "ours, 8 pictures, 64 px, --batch 8": {"pictures": 8, "seconds": [2.0, 4.0, 5.0]},
        "diffusers, 8 pictures, 64 px, --batch 8": {"pictures": 8, "seconds": [6.0, 8.0, 5.0]},
        "ours, 8 pictures, 64 px, as it is": {"pictures": 8, "seconds": [8.0, 10.0, 16.0]},
        "ours, 1 picture, 256 px, as it is": {"pictures": 1, "seconds": [0.5, 0.5, 0.5]},
    }
    text = report.page({"a-machine": {"starter": measured("starter", "starter.py", dtype="fp32", cold={}, warm=warm)}})
    assert row(text, "8 pictures, 64 px, --batch 8")[1:] == ["4", "2.00", "6", "1.33", "**2.00**"]
    assert row(text, "8 pictures, 64 px, as it is")[1:] == ["10", "0.80", "", "", ""]
    assert row(text, "1 picture, 256 px, as it is")[1:] == ["0.5", "2.00", "", "", ""]


def test_a_prompt_file_is_told_in_pictures_an_hour(report: ModuleType) -> None:
    runs = {"ours, 64 px": {"seconds": 200.0, "memory": 5e8}, "diffusers, 64 px": {"seconds": 400.0, "memory": 1e9}}
    text = report.page({"a-machine": {"prompts": measured("prompts", "prompts.py", lines=1000, runs=runs)}})
    assert row(text, "ours, 64 px") == ["ours, 64 px", "200", "18000", "0.50 GB"]
    assert row(text, "diffusers, 64 px")[2] == "9000"


def test_pictures_that_are_compared_are_painted_as_many_at_once_as_diffusers_paints(starter: ModuleType) -> None:
    assert {row.name: row.batch for row in starter.WARM} == {
        "1 picture, 64 px": 1,
        "8 pictures, 64 px, --batch 8": 8,
        "16 pictures, 64 px, --batch 16": 16,
        "1 picture, 256 px, as it is": None,
        "8 pictures, 64 px, as it is": None,
        "16 pictures, 64 px, as it is": None,
    }


def test_a_load_has_the_median_of_its_seconds_and_the_most_memory(report: ModuleType) -> None:
    runs = [{"open": k, "read": 2 * k, "step": 3 * k, "cold": 4 * k, "memory": k * 10**9} for k in (1.0, 5.0, 2.0)]
    processes = {name: [0.1, 0.3, 0.2] for name in report.PROCESSES}
    figures = measured("startup", "startup.py", processes=processes, loads={"fp32": {"ours": runs}})
    text = report.page({"a-machine": {"startup": figures}})
    assert row(text, "fp32") == ["fp32", "ours", "2", "4", "6", "8", "5.0 GB"]
    assert row(text, "`dalle --help`") == ["`dalle --help`", "0.2"]


def test_integers_have_their_speed_and_their_error_beside_the_processors_own_type(report: ModuleType) -> None:
    large = {"seconds": {"own": [3.0, 2.0, 4.0], "int8": [2.0, 2.0, 2.0]}, "error": {"own": 0.01, "int8": 0.036}}
    small = {"error": {"own": 0.004, "int8": 0.008}}
    figures = measured(
        "int8", "int8.py", dtype="bfloat16", least_channels=64, networks={"large": large, "small": small}
    )
    text = report.page({"a-machine": {"int8": figures}})
    assert row(text, "large") == ["large", "3", "2", "**1.50**", "1.00%", "3.60%", "**3.6**"]
    assert row(text, "small") == ["small", "", "", "", "0.40%", "0.80%", "**2.0**"]
    assert "at least 64 channels" in text


def profile(model: str, **figures: Any) -> dict[str, Any]:
    kinds = {"convolutions": {"seconds": 1.5, "launches": 70}, "others": {"seconds": 0.5, "launches": 9}}
    rest = {"tflop": 0.5, "peaks": {"gemm": 0.5, "conv": 0.25}, "seconds": 2.5, "profiled": 3.0, "busy": None}
    others = {"aten::empty": {"seconds": 0.25, "launches": 8}}
    table = {**measured("kernels", f"kernels.py {model}"), "model": model, "dtype": "fp32", "batch": 1}
    return {**table, "kinds": kinds, "others": others, **rest, **figures}


def test_kinds_of_operators_have_seconds_and_shares_beside_the_floor_of_the_run(report: ModuleType) -> None:
    text = report.page({"a-machine": {"kernels starter fp32": profile("starter")}})
    assert "### Where the time goes: the starter, 256 px, fp32\n" in text
    assert row(text, "convolutions")[1:] == ["1.5", "75.0%", "70"]
    assert "of a run of 3 seconds under torch's profiler" in text
    assert "took 2.5 seconds, **2.50** times as long as its floor: 0.5 TFLOP are 1 seconds at 0.5 TFLOP/s" in text
    assert "The largest of the others: `aten::empty` 250 ms." in text
    assert "did nothing" not in text


def test_a_gpu_is_idle_while_no_kernel_runs_and_never_less_than_not_at_all(report: ModuleType) -> None:
    figures = profile("karlo", batch=16, busy=2.0, others={})
    text = report.page({"a-machine": {"kernels karlo fp32 x 16": figures}})
    assert "### Where the time goes: Karlo, 256 px, fp32, 16 pictures at once\n" in text
    assert "The device did nothing in 20% of this time." in text
    assert "the others:" not in text
    text = report.page({"a-machine": {"kernels karlo fp32": profile("karlo", busy=2.6)}})
    assert "The device did nothing in 0% of this time." in text


def test_a_lever_has_medians_and_how_many_times_as_long_it_takes_without(report: ModuleType) -> None:
    taken = {"a thing done once": {"without": [0.04, 0.06, 0.09], "with": [0.01, 0.03, 0.03]}}
    figures = measured("levers", "levers.py", dtype="bf16", levers=taken)
    text = report.page({"a-machine": {"levers bf16": figures}})
    assert "### Levers, bf16" in text
    assert row(text, "a thing done once")[1:] == ["0.06", "0.03", "**3.00**"]


def test_the_dials_stand_in_the_order_in_which_they_were_measured(report: ModuleType) -> None:
    shares = {"pair_all_objects": 0.5, "style_style": 0.25, "style_objects": 1.0, "seconds": [1.0, 3.0, 2.0]}
    rows = {"as it is": shares, "--sampler ddim": shares}
    text = report.page({"a-machine": {"samplers": measured("samplers", "sampling.py", pictures=48, rows=rows)}})
    assert row(text, "`--sampler ddim`")[1:] == ["50.0%", "25.0%", "100.0%", "2"]
    assert text.index("| as it is |") < text.index("| `--sampler ddim` |")


def test_ours_in_bf16_is_set_against_what_diffusers_runs_in_as_it_comes(report: ModuleType) -> None:
    names = ("text", "prior", "decoder", "upsampler")
    tables = {
        f"karlo {dtype}": model(
            "karlo", dtype, **{name: stage(10, side(1.0, 1.0), side(1.0, theirs)) for name in names}
        )
        for dtype, theirs in (("bf16", 2.0), ("fp32", 6.0))
    }
    assert "projected: 40 and 220 seconds, **5.50** times as long" in report.page({"a-machine": tables})


def test_going_on_over_a_finished_batch_is_a_table(report: ModuleType) -> None:
    runs = {
        name: {"cpu": cpu, "seconds": 2 * cpu, "megabytes": 50.4} for name, cpu in (("painted", 200.0), ("gone", 9.0))
    }
    figures = measured("finished", "scale.py --finished 100000", lines=100_000, runs=runs)
    text = report.page({"a-machine": {"scale finished": figures}})
    assert row(text, "painted")[1:] == ["400", "200", "50 MB"]
    assert row(text, "gone")[1:] == ["18", "9", "50 MB"]


def test_what_a_server_costs_is_a_table_of_medians(report: ModuleType) -> None:
    costs = {"start": [0.3, 0.2, 0.5], "request": [0.008, 0.007, 0.009], "command_line": [0.2, 0.1, 0.3]}
    many = {"callers": 16, "batch": 8, "served": [3.0, 2.0, 4.0], "offline": [4.0, 4.0, 5.0], "health": [0.01, 0.02]}
    text = report.page({"a-machine": {"server": measured("server", "server.py", **costs, **many)}})
    assert row(text, "from the start to the first answer")[1:] == ["0.3 s"]
    assert row(text, "a warm request, without its painting")[1:] == ["8.0 ms"]
    assert row(text, "16 callers at once, `--batch 8`")[1:] == ["3.00 pictures a second"]
    assert row(text, "callers to prompt file, median of the rounds' own ratios")[1:] == ["**0.75**"]
    assert row(text, "the slowest answer of `/health` meanwhile")[1:] == ["20 ms"]


def test_many_workers_are_a_table_and_a_busy_machine_is_said(report: ModuleType) -> None:
    costs = {"cpu": 0.002, "disk": 0.004, "order": 0.001, "bytes": 142_000, "megabytes": 40.0}
    run = {"seconds": 2.0, "group": 8, "lines": 4000, "memory": [37.0, 40.0], "workers": {"1": [4.0, 0.05]}}
    figures = measured("scale", "scale.py", **costs, **run, load=1.0)
    text = report.page({"a-machine": {"scale": figures}})
    assert "a picture of 142 kB, measured: 2 ms of its CPU and 4 ms of the disk; Ray takes 1 ms for an order." in text
    assert row(text, "1")[1:] == ["4.0", "100%", "5%"]
    assert "Other programs" not in text
    assert "the load average was 9." in report.page({"a-machine": {"scale": {**figures, "load": 9.0}}})

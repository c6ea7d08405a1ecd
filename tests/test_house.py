"""The rules of the house, so that it stays one: floors, names, start-up without torch, and a frozen surface."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import dallecli
from dallecli.cli.app import build

HOUSE = Path(dallecli.__file__).parent

# The floors of design: a room may import rooms on lower floors, and nothing else of ours. On floor 1 the rooms do not
# know each other; on the others a room may import its neighbours.
FLOORS = [
    {
        *(
            "version",
            "installation",
            "unknown",
            "safe",
            "signals",
            "errors",
            "limits",
            "fields",
            "publish",
            "source",
            "size",
            "sizing",
            "tasks",
            "recipe",
            "filling",
            "pictures",
        ),
        *("engine", "fake_engine"),
        *("inputs", "arguments", "embedding_file", "embedding_arithmetic", "ranking", "cleaning", "own_folders"),
        "shortlist",
        "classes",
        *("knowledge", "rewritten"),
        *("sentencepiece_file", "captions", "codes_file"),
    },
    {"nets", "diffusion", "weights", "tokens"},
    {"pipelines", "placement", "devices"},
    {"studio", "remote", "batch", "history", "model", "probes", "rewriting", "cluster"},
    {"cli", "server", "training", "__main__"},
]
BLIND_FLOOR = 1

# Opened inside functions, by the room that needs them: importing them costs seconds.
HEAVY = {"torch", "numpy", "diffusers", "transformers", "rich", "PIL", "huggingface_hub", "pydantic", "ftfy"}

DUMPING_GROUNDS = {"util", "utils", "common", "helper", "helpers", "base", "core", "misc", "lib", "tools", "manager"}


BANNED = {"torch.load", "pickle.load", "pickle.loads", "torch.set_grad_enabled", "torch.manual_seed"}

# Pickles are opened here alone: in a process of its own, and for tensors only.
CONVERTER = HOUSE / "weights" / "convert.py"

# Networks draw their first weights from the global generator, so who trains them has to seed it.
SEEDS_THE_WORLD = "training"


def _modules() -> list[Path]:
    return sorted(path for path in HOUSE.rglob("*.py") if path != HOUSE / "__init__.py")


def _room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def _floor(room: str) -> int:
    return next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """The rooms of ours that a module imports, wherever in it, with the line; `TYPE_CHECKING` blocks count, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = "" if node.module is None else node.module
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "dallecli" else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "dallecli" and rest:
                yield rest.partition(".")[0], node.lineno


def test_every_room_has_a_floor():
    assert {_room(path) for path in _modules()} <= set().union(*FLOORS)


def test_the_drawing_of_the_house_has_every_room_on_its_floor():
    page = (HOUSE.parent / "docs" / "contributing.md").read_text(encoding="utf-8")
    drawing = page.partition("```text")[2].partition("```")[0]
    for floor, rooms in enumerate(FLOORS):
        drawn = drawing.partition(f"floor {floor} ")[2].partition("\nfloor ")[0]
        assert rooms <= set(drawn.replace(",", " ").split()), f"the drawing lacks a room of floor {floor}"


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_point_down(path):
    here = _room(path)
    for there, line in _imports(path):
        if there == here:
            continue
        assert there in set().union(*FLOORS), f"{path}:{line}: no room is called {there}"
        below = _floor(there) < _floor(here)
        beside = _floor(there) == _floor(here) != BLIND_FLOOR
        assert below or beside, f"{path}:{line}: {here} is on floor {_floor(here)}, {there} on floor {_floor(there)}"


def test_training_is_imported_by_its_command_only():
    importers = {
        path.relative_to(HOUSE).as_posix() for path in _modules() for room, _ in _imports(path) if room == "training"
    }
    commands = {"cli/train_starter.py", "cli/train_evaluate.py", "cli/train_stages.py", "cli/bars.py"}
    assert {name for name in importers if not name.startswith("training/")} <= commands


def test_no_room_is_a_dumping_ground():
    names = {part.removesuffix(".py") for path in _modules() for part in path.relative_to(HOUSE).parts}
    assert not names & DUMPING_GROUNDS


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_every_file_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), f"{path} has no docstring"


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_nothing_is_swallowed_loaded_loosely_or_unpickled(path):
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{path}:{node.lineno}: a bare except"
            everything = isinstance(node.type, ast.Name) and node.type.id == "Exception"
            assert not everything or path == HOUSE / "cli" / "app.py", (
                f"{path}:{node.lineno}: the boundary is in cli/app.py"
            )
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            loose = any(word.arg == "strict" and ast.unparse(word.value) == "False" for word in node.keywords)
            assert not (node.func.attr == "load_state_dict" and loose), f"{path}:{node.lineno}: weights load strictly"
            called = ast.unparse(node.func)
            if called == "torch.load" and path == CONVERTER:
                assert "weights_only=True" in [ast.unparse(word) for word in node.keywords]
                continue
            if not (called == "torch.manual_seed" and _room(path) == SEEDS_THE_WORLD):
                assert called not in BANNED, f"{path}:{node.lineno}: {called}"
    for mark in ("TODO", "FIXME", "XXX"):
        assert mark not in text, f"{path}: {mark}"


# Start-up


def _loaded_by(code: str) -> set[str]:
    """The heavy packages that a new process has imported after some code."""
    probe = f"import sys, json\n{code}\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return HEAVY & set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["generate", "--help"], set()),
        (["inpaint", "--help"], set()),
        (["models", "list"], {"huggingface_hub"}),
        (["models", "list", "--json"], {"huggingface_hub"}),
        (["generate", "--nope"], set()),
        # Typer imports pydantic to read any value that is not a flag, and not plain.
        (["generate", " "], set()),
        (["generate", "a fox", "-n", "2", "--device", "cpu", "--dry-run"], set()),
        (["generate", "a fox", "--x", "steps=5,9", "--device", "cpu", "--dry-run"], {"PIL", "numpy"}),
        (["interpolate", "a fox", "a dog", "--device", "cpu", "--dry-run"], set()),
        (["generate", "a fox", "--seed", "3", "--server", "http://127.0.0.1:9"], set()),
        (["doctor", "--device", "cpu"], {"huggingface_hub"}),
        (["serve", "--help"], set()),
        (["gallery", "nowhere"], {"pydantic", "PIL", "numpy", "huggingface_hub"}),
        (["serve", "--host", "0.0.0.0"], {"pydantic", "numpy", "PIL", "huggingface_hub"}),
    ],
    ids=lambda words: " ".join(words if isinstance(words, list) else sorted(words)),
)
def test_short_commands_import_nothing_heavy(arguments, allowed):
    code = f"from dallecli.cli.app import run\nrun({arguments!r})"
    assert _loaded_by(code) <= allowed


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["models", "list"]], ids=" ".join)
def test_short_commands_do_little_more_than_the_library_that_reads_them(arguments):
    # In function calls, which no other process and no slower machine changes. Measured: up to 5.4 times as many, of
    # which the registry takes more with each family.
    ours = _calls_of(f"from dallecli.cli.app import run\nrun({arguments!r})")
    assert ours <= 6 * _calls_of("import typer.main")


@pytest.mark.parametrize(
    "arguments", [["doctor", "--device", "cpu"], ["generate", "a fox", "--device", "cpu", "--dry-run"]], ids=" ".join
)
def test_what_only_looks_ahead_does_so_without_the_work(arguments):
    # Measured: up to 7 times as many; with torch, 25 times.
    ours = _calls_of(f"from dallecli.cli.app import run\nrun({arguments!r})")
    assert ours <= 10 * _calls_of("import typer.main")


def _calls_of(code: str) -> int:
    """How many functions a new process calls while it runs some code."""
    counted = f"""
import sys
calls = 0
def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
sys.setprofile(count)
{code}
sys.setprofile(None)
print(calls, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", counted], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stderr.splitlines()[-1])


@pytest.mark.long
def test_a_command_that_imports_torch_hardly_collects_garbage_and_not_at_its_end(tmp_path):
    # Measured: 48 times. As Python does by itself: 448 times, and once more over all that is there before it ends.
    code = f"""
import atexit, gc, json, sys
def tell():
    print(json.dumps([sum(g["collections"] for g in gc.get_stats()), gc.get_freeze_count()]), file=sys.stderr)
atexit.register(tell)
sys.argv = ["dalle", "embed", "a fox", "-q", "--out", {str(tmp_path)!r}]
from dallecli.cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    collections, frozen = json.loads(done.stderr.splitlines()[-1])
    assert collections < 150
    assert frozen > 100_000


def test_rooms_that_batches_and_servers_start_with_do_not_import_torch():
    rooms = (
        "cli.app errors fields publish source tasks.builder recipe filling inputs embedding_file "
        "pictures.formats pictures.metadata pictures.names pictures.picture pictures.reading pictures.masks "
        "pictures.canvas pictures.animation pictures.sheets "
        "codes_file engine fake_engine safe studio.coders studio.engine studio.choice "
        "studio.models studio.memory studio.batches studio.opened "
        "cleaning tokens weights.registry weights.folder weights.layouts weights.digest weights.header "
        "pipelines.pipeline pipelines.description pipelines.unclip_description "
        "weights.hub weights.lock weights.fetch.pull weights.convert cli.pulling arguments cli.settings "
        "batch.prompt_file batch.wildcards batch.jobs batch.journal batch.machines batch.presence batch.runner "
        "batch.execution cluster.engine cluster.executor cluster.dispatch cluster.pool cluster.connection "
        "cluster.worker cli.batch cli.ray history "
        "cli.options cli.folding cli.command cli.painting cli.output cli.destination cli.saving cli.axes cli.prompts "
        "cli.config cli.viewer cli.mistaken cli.completion cli.batch_progress cli.display cli.reference "
        "server.run server.app server.painter server.translate cli.serve"
    )
    code = "\n".join(f"import dallecli.{room}" for room in rooms.split())
    assert not _loaded_by(code) & {"torch", "diffusers", "transformers", "ftfy"}


def test_importing_any_room_does_nothing_but_import(tmp_path):
    """No files, no output, no random numbers drawn, no grad mode changed, no threads set."""
    paths = [path.relative_to(HOUSE.parent).with_suffix("") for path in _modules() if path.stem != "__main__"]
    names = sorted(
        (".".join(path.parts).removesuffix(".__init__") for path in paths),
        key=lambda name: (name.startswith("dallecli.server"), name),
    )
    code = f"""
import importlib, random, sys, torch
def state():
    return random.getstate(), torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.get_num_threads()
before = state()
for name in {names!r}:
    if name == "dallecli.server":  # the last room: uvicorn's own command line is written with click
        assert "click" not in sys.modules
    importlib.import_module(name)
assert before == state()
assert not {{"diffusers", "transformers"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": str(HOUSE.parent)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


# The surface


GROUPS = {"models", "train", "config", "probe", "ray"}


def test_a_new_option_is_a_decision():
    """Every option is a promise: whoever changes this set thinks of the config file, the docs and the changelog."""
    root = get_command(build())
    leaves = {"dalle": root, **{name: root.commands[name] for name in sorted(set(root.commands) - GROUPS)}}
    for group in ("models", "config", "probe", "ray"):
        leaves |= {f"{group} {name}": leaf for name, leaf in root.commands[group].commands.items()}
    found = {name: {option for param in leaf.params for option in param.opts} for name, leaf in leaves.items()}
    model = {"--model", "-m", "--device", "--dtype", "--memory"}
    decoder = {"--steps", "--decoder-steps", "--upsampler-steps", "--guidance", "--upsampler-guidance"}
    decoder |= {
        f"--{group}{dial}" for group in ("", "upsampler-") for dial in ("guidance-start", "guidance-stop", "reuse")
    }
    prior = {
        "--prior-steps",
        "--prior-guidance",
        "--prior-candidates",
        "--prior",
        "--prior-temperature",
        "--prior-top-k",
    }
    file = {"--output", "-o", "--out", "--force"}
    output = file | {"--format", "--no-metadata", "--preview", "--open"}
    ask = {"--seed", "-s", "--size", "--strict"}
    reporting = {"--json", "--quiet", "-q", "--debug"}
    effort, at_once = {"--fast"}, {"--batch", "--compile"}  # --fast or --best
    num, sampler, layout, prompt = (
        {"--num", "-n"},
        {"--sampler", "--upsampler-sampler"},
        {"--layout"},
        {"--prompt", "-p"},
    )
    moving = {"--animate", "--fps", "--bounce", "--hold"}
    batch = {"--prompts", "--matrix", "--wildcards", "--keep-going", "--retry-failed", "--share", "--shard"}
    masking = {"--mask", "--mask-mode", "--invert-mask", "--expand", "--show-mask"}
    remembered = {"--no-history"}
    axes = {"--x", "--y"}
    rewriting = {"--rewrite", "--rewrite-with"}
    server = {"--server", "--token-file"}
    cluster = {"--ray", "--ray-workers", "--weights-from"}
    painting = (
        (remembered | ask | model | at_once | effort | decoder | batch | output | layout | reporting | {"--dry-run"})
        | rewriting
        | server
        | cluster
    )
    assert found == {
        "dalle": {"--version", "-V"},
        "generate": {"prompts", "--class", "--best-of", "--judge", "--negative", "--init", "--strength"}
        | {"--continue", "--rows", "--temperature", "--top-k", "--top-p"}
        | (painting | num | prior | sampler | axes),
        "vary": {"images", "--fidelity", "--inversion-steps"} | painting | num | sampler | prompt | axes,
        "interpolate": {"ends", "--frames", "--at", "--weights", "--noise", "--inversion-steps"}
        | (painting | num | prior | sampler | moving),
        "inpaint": {"image", "--negative", "--resample"} | painting | num | prior | sampler | masking | prompt | axes,
        "edit": {"image", "--from", "--to", "--strength", "--sweep", "--inversion-steps"} | painting | moving | axes,
        "rank": {"things"} | model | server | reporting,
        "embed": effort
        | {"things", "--minus", "--plus", "--imagine", "--invert", "--inversion-steps"}
        | (ask | model | server | prior | file | reporting),
        "encode": {"files", "--size"} | model | server | file | reporting,
        "decode": {"files", "--format"} | model | server | file | reporting,
        "show": {"files", "--json", "--debug"},
        "replay": {"files", "--input"} | remembered | model | server | output | reporting,
        "grid": {"things", "--columns", "--rows", "--tile", "--label", "--open"} | file | reporting,
        "check": {"folders"} | reporting,
        "history": {"words", "--last", "--clear", "--json", "--debug"},
        "serve": {"--host", "--port", "--token-file", "--allow-host", "--cors-origin", "--public-url"}
        | {"--alias", "--no-aliases", "--strict-size", "--queue", "--timeout", "--drain", "--log-prompts"}
        | {"--pictures", "--open"}
        | (model | at_once | rewriting | cluster | reporting),
        "gallery": {"folder", "--recursive", "-r", "--port", "--open"} | reporting,
        "shell": {"--model", "-m", "--device", "--dtype", "--out", "--quiet", "-q", "--debug"} | server,
        "doctor": {"--json", "--debug"} | model | server,
        "probe pca": {"image", "--fit", "--components"}
        | (remembered | ask | model | at_once | server | effort | decoder | sampler | output | layout | reporting),
        "probe vocabulary": {"words", "--random", "--against", "--judge", "--temperature", "--top-k", "--top-p"}
        | (remembered | ask | model | at_once | server | effort | decoder | sampler | output | layout | reporting)
        | (num | prior),
        "ray check": {"models", "--ray"} | reporting,
        "config where": {"--debug"},
        "config get": {"option", "--json", "--debug"},
        "config set": {"option", "value", "--quiet", "-q", "--debug"},
        "config unset": {"option", "--quiet", "-q", "--debug"},
        "models list": {"--json", "--debug"},
        "models path": {"name", "--debug"},
        "models words": {"name", "--json", "--debug"},
        "models pull": {"name", "--for", "--half", "--yes", "-y"} | reporting,
        "models verify": {"names"} | reporting,
        "models remove": {"name", "--yes", "-y"} | reporting,
        "models convert": {"source", "target", "--yes", "-y"} | reporting,
    }
    assert set(root.commands) - set(leaves) == GROUPS


def test_one_dial_has_one_name_everywhere():
    """The same option never means two things: whoever shares a name shares the declaration in cli/options.py."""
    # What is made again has everything in its recipe: there these options say what is to be different.
    recipes_own = {("replay", "--model"), ("replay", "--device"), ("replay", "--dtype")}
    shared = {"--model", "--device", "--dtype", "--json", "--quiet", "--debug", "--force"}

    def options(name, command, *, training=False):
        for child, inner in getattr(command, "commands", {}).items():
            yield from options(child, inner, training=training or child == "train")
        for param in command.params:
            # Training has dials of its own.
            if (not training or param.opts[0] in shared) and (name, param.opts[0]) not in recipes_own:
                yield param.opts[0], (tuple(param.opts), param.help)

    meanings: dict[str, set[object]] = {}
    for name, meaning in options("dalle", get_command(build())):
        meanings.setdefault(name, set()).add(meaning)
    # A sheet has rows, and so have the codes of a picture; the two commands have nothing else in common.
    assert {name for name, known in meanings.items() if len(known) > 1 and name.startswith("-")} <= {"--rows"}
    assert shared <= set(meanings)


def test_the_names_of_samplers_are_those_that_exist():
    from dallecli.diffusion.samplers import SAMPLERS
    from dallecli.fake_engine import FakeEngine
    from dallecli.weights import registry

    assert set(registry.SAMPLERS) == set(SAMPLERS) == set(FakeEngine.SAMPLERS)

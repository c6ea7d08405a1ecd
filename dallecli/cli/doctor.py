"""`dalle doctor`: what dalle would paint with here, and why."""

import os
from collections.abc import Mapping
from typing import Any

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.errors import DalleError

_PACKAGES = ("torch", "numpy", "pillow", "safetensors", "tokenizers", "ftfy", "huggingface-hub", "typer", "rich")


@folded
def doctor(
    model: options.ModelOptions,
    memory: options.MemoryOptions,
    server: options.ServerOptions,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Say what would be used here, and why.

    Device, number type, memory, model, settings and versions; of a server that is used instead, whether it answers.
    Ends with the exit code of the first problem that `dalle generate` would meet, 0 if there is none.

    \b
    Examples:
      dalle doctor
      dalle doctor --device cuda --model karlo
      dalle doctor --server http://127.0.0.1:8188
    """
    import typer

    from dallecli.cli.display import emit_json, emit_rows

    problems: list[DalleError] = []
    findings: dict[str, dict[str, Any]] = {
        "versions": _versions(),
        "machine": _machine(),
        "settings": _settings(problems),
    }
    served, used = _server(server, problems)
    findings |= served
    if not used:
        findings["model"] = _model(model.model, problems)
        findings["placement"] = _placement(model, memory.memory, problems)
    if json:
        emit_json({**findings, "problems": [problem.facts() for problem in problems]})
    else:
        rows = [
            (name, str(value)) for finding in findings.values() for name, value in finding.items() if value is not None
        ]
        emit_rows([*rows, *(("problem", "; ".join(problem.lines())) for problem in problems)])
    if problems:
        raise typer.Exit(problems[0].exit_code)


def _versions() -> dict[str, str]:
    import platform

    from dallecli.version import __version__

    return {
        "dalle": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "textual-image": _version("textual-image", absent="not installed: --preview draws half blocks"),
    }


def _version(package: str, absent: str = "not installed") -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return absent


def _machine() -> dict[str, Any]:
    import platform

    from dallecli.placement import system_memory

    memory = system_memory()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": _size(memory.total),
        "free memory": _size(memory.free),
    }


def _size(amount: int | None) -> str | None:
    from dallecli.placement import in_words

    return None if amount is None else in_words(amount)


def _settings(problems: list[DalleError]) -> dict[str, Any]:
    from dallecli.cli.settings import VARIABLES, read_config

    config: dict[str, Any] = {}
    try:
        config = read_config()
    except DalleError as problem:
        problems.append(problem)
    return {
        "config file": _config_file(),
        "config": _listed({key: str(value) for key, value in config.items()}),
        "environment": _listed({name: _shown(name) for name in VARIABLES if name in os.environ}),
    }


def _shown(variable: str) -> str:
    """The value of an environment variable; of a secret only that it is there."""
    return "(set)" if variable == "DALLE_TOKEN" else os.environ[variable]


def _server(options: options.ServerOptions, problems: list[DalleError]) -> tuple[dict[str, dict[str, Any]], bool]:
    """What is found of the server that is asked for, and whether one is used instead of this machine."""
    from dallecli.remote.address import AUTO
    from dallecli.remote.choice import is_remote, meant
    from dallecli.remote.connection import Server, check_protocol
    from dallecli.remote.token import find_token

    if not is_remote(options.server):
        return {}, False
    found: dict[str, Any] = {"server": options.server, "answers": None}
    try:
        address = meant(options.server)
        found["server"] = address.url
        health = Server(address, find_token(options.token_file)[0]).ask_health()
        found["answers"] = f"dalle {health['version']}, {health['model']}, {health['status']}"
        check_protocol(health, address)
    except DalleError as problem:
        if options.server == AUTO and found["answers"] is None:
            return {"server": {**found, "answers": f"{problem.what}: painting here"}}, False
        problems.append(problem)
    return {"server": found}, True


def _config_file() -> str:
    from dallecli.cli.settings import config_path
    from dallecli.errors import BadConfig

    try:
        path = config_path()
    except BadConfig as nowhere:
        return nowhere.what
    return str(path) if path.is_file() else f"{path} (not there)"


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) if values else "nothing set"


def _model(name: str, problems: list[DalleError]) -> dict[str, Any]:
    from dallecli.weights.registry import find, locate

    try:
        spec = find(name)
        folder = locate(spec)
        parameters = folder.parameters()
    except DalleError as problem:
        problems.append(problem)
        return {"model": name, "folder": None, "parameters": None, "licence": None}
    return {
        "model": spec.name,
        "folder": str(folder.path),
        "parameters": f"{parameters / 1e6:.1f} million",
        "licence": spec.licence,
    }


def _placement(wanted: options.ModelOptions, memory: str, problems: list[DalleError]) -> dict[str, Any]:
    from dallecli.placement import decide, in_words
    from dallecli.studio.engine import LocalEngine
    from dallecli.studio.memory import check_memory

    try:
        placement = decide(wanted.device, wanted.dtype)
    except DalleError as problem:
        problems.append(problem)
        return {"device": wanted.device, "dtype": wanted.dtype, "why": None}
    found: dict[str, Any] = {"device": placement.name, "dtype": placement.kind, "why": placement.why}
    try:
        plan = LocalEngine(memory).plan_memory(wanted.model, placement)
        needs = (f"{part} {in_words(need.weights + need.working)}" for part, need in plan.needs.items())
        found |= {"networks at work": ", ".join(needs), "memory plan": plan.why}
        check_memory(wanted.model, placement, plan)
    except DalleError as problem:
        if problem.what not in {known.what for known in problems}:  # of the model itself
            problems.append(problem)
    return found

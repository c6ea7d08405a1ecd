"""The wheel and the source distribution hold all that dalle needs, and work from any directory."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from dallecli import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it and not from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT), cwd=out)
    return out


@pytest.fixture(scope="module")
def site(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds the installed wheel and nothing else."""
    site = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site))
    run(*pip, str(wheel(distributions)), cwd=site)
    return site


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path) if path is not None else ""}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


def dalle(*arguments: str, site: Path, cwd: Path) -> str:
    """What the installed `dalle` prints."""
    return run(str(site / "bin" / "dalle"), *arguments, cwd=cwd, path=site)


def test_the_wheel_holds_every_file_of_the_package_and_the_registry(distributions: Path) -> None:
    with zipfile.ZipFile(wheel(distributions)) as archive:
        held = set(archive.namelist())
    kept = {".py", ".json", ".toml", ".txt", ".png", ".webp", ".safetensors", ".typed"}
    kept |= {".html", ".js", ".css", ".svg"}  # the page
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "dallecli").rglob("*")
        if path.is_file() and (path.suffix in kept or path.name == "py.typed")
    }
    assert expected <= held
    assert "dallecli/weights.toml" in held
    assert not any(name.startswith(("tests/", "docs/")) for name in held)


def test_the_wheel_carries_no_large_file_twice(distributions: Path) -> None:
    with zipfile.ZipFile(wheel(distributions)) as archive:
        large = [(entry.CRC, entry.file_size) for entry in archive.infolist() if entry.file_size > 100_000]
    assert len(large) == len(set(large)), "python -m dallecli.weights.twins dallecli/starter"


def test_the_wheel_names_its_licences_and_its_command(distributions: Path) -> None:
    with zipfile.ZipFile(wheel(distributions)) as archive:
        info = f"dalle_shell-{__version__}.dist-info"
        licences = {name for name in archive.namelist() if name.startswith(f"{info}/licenses/")}
        commands = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert {Path(name).name for name in licences} == {"LICENSE", "NOTICE", "OFL.txt", "MIT.txt", "CC-BY-4.0.txt"}
    assert "dalle = dallecli.cli.app:main" in commands
    assert "License-Expression: Apache-2.0 AND MIT AND CC-BY-4.0 AND OFL-1.1\n" in metadata


def test_the_source_distribution_can_be_built_tested_and_installed_as_the_readme_says(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "constraints.txt", "weights.toml", "README.md", "LICENSE", "NOTICE", ".ci/run"} <= held
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")} <= held


def test_the_installed_program_runs_outside_of_the_checkout(site: Path, tmp_path: Path) -> None:
    assert __version__ in dalle("--version", site=site, cwd=tmp_path)
    where = run(sys.executable, "-P", "-c", "import dallecli; print(dallecli.__file__)", cwd=tmp_path, path=site)
    assert where.strip() == str(site / "dallecli" / "__init__.py")


def test_the_installed_program_finds_its_registry(site: Path, tmp_path: Path) -> None:
    listed = dalle("models", "list", site=site, cwd=tmp_path)
    assert "starter" in listed
    assert "karlo" in listed


def test_every_dependency_is_among_the_tested_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    names = {entry.partition(">")[0].partition("=")[0].lower() for entry in asked}
    assert names <= pinned


def test_tested_versions_are_exact_and_say_nothing_of_one_machine() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert "torch==2.13.0" in lines
    for line in lines:
        name, equals, version = line.partition("==")
        assert name and equals and version
        assert "+" not in version
        assert "@" not in line

"""Install the clients where they are missing, and run their tests: see `tests.server.clients`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.server.clients import CLIENTS, FOLDER, Client

ROOT = Path(__file__).parents[3]


def install(client: Client) -> None:
    """Make the folder of a client anew."""
    sys.stderr.write(f"installing {' '.join(client.packages)} into {client.folder}\n")
    shutil.rmtree(client.folder, ignore_errors=True)
    client.folder.mkdir(parents=True)
    if client.node:
        (client.folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"]
        subprocess.run(["npm", "install", *options, *client.packages], cwd=client.folder, check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", client.folder], check=True)
        pip = [client.folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *client.packages], check=True)
    (client.folder / "packages.txt").write_text("\n".join(client.packages))


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path.home() / ".cache" / "dalle-clients").absolute()
    os.environ[FOLDER] = str(folder)
    for client in CLIENTS:
        if not client.is_here:
            install(client)
    tests = [sys.executable, "-m", "pytest", "-m", "clients", "tests/server/test_clients.py"]
    return subprocess.run(tests, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())

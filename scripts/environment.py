"""Make a virtual environment with this project in it, by uv where there is one or can be one, by pip otherwise.

python scripts/environment.py FOLDER [EXTRA ...] [--python PATH] [--constraints NAME]

Needs no more than a Python with venv, and the package index. Environments in a folder that is there are brought up
to date.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = Path(__file__).parent / "constraints"
UV_FOLDER = ROOT / ".venv-uv"


def program(folder: Path, name: str) -> str:
    """Return the path of a virtual environment's program."""
    return str(folder / (f"Scripts/{name}.exe" if os.name == "nt" else f"bin/{name}"))


def uv() -> str | None:
    """Find uv: the machine's own, or one from the package index; None where that has none for this machine."""
    found = shutil.which("uv") or program(UV_FOLDER, "uv")
    if Path(found).is_file():
        return found
    try:
        subprocess.run([sys.executable, "-m", "venv", str(UV_FOLDER)], check=True)
        subprocess.run(
            [program(UV_FOLDER, "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv"],
            check=True,
            capture_output=True,
        )
    except (subprocess.CalledProcessError, OSError):
        print("no uv on this machine and none from the package index: pip takes longer", file=sys.stderr)
        return None
    return found


def make(folder: Path, extras: list[str], python: str = sys.executable, constraints: str = "newest") -> None:
    """Make an environment with the project, editable, with these extras, at the versions of the constraints file."""
    wanted = ["-e", f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)]
    uv_program = uv()
    if uv_program is not None:
        subprocess.run([uv_program, "venv", "-q", "--allow-existing", "--python", python, str(folder)], check=True)
    else:
        # An old pip looks for minutes through versions of packages that come in sets.
        subprocess.run([python, "-m", "venv", "--upgrade-deps", str(folder)], check=True)
    install(folder, [*wanted, "-c", str(CONSTRAINTS / f"{constraints}.txt")])


def install(folder: Path, wanted: list[str]) -> None:
    """Install into an environment that is there; `wanted` as pip takes it."""
    uv_program, python = uv(), program(folder, "python")
    if uv_program is not None:
        command = [uv_program, "pip", "install", "-q", "--python", python]
        subprocess.run([*command, *wanted], check=True, env={**_index_of_pip(), **os.environ})
    else:
        command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*command, *wanted], check=True)


def _index_of_pip() -> dict[str, str]:
    """Return the index that pip is configured with, for uv, which does not read pip's configuration."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    answer = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    index = os.environ.get("PIP_INDEX_URL") or answer
    return {"UV_DEFAULT_INDEX": index} if index else {}


def main() -> int:
    """Make the environment; return 0 when it is made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("extras", nargs="*", default=["demo", "test"])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--constraints", default="newest", metavar="NAME", help="a file of scripts/constraints")
    options = parser.parse_args()
    make(options.folder, options.extras, options.python, options.constraints)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

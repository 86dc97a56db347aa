"""Build the wheel, install it into an empty environment, and import every module of it from another folder.

The source tree hides what a wheel lacks: two well-known packages of this field fail just this check.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROBE = """
import importlib, pathlib, pkgutil, sys
import otel_pipeline
home = pathlib.Path(otel_pipeline.__file__).parent
assert "site-packages" in str(home), home
names = [module.name for module in pkgutil.walk_packages([str(home)], "otel_pipeline.")]
names = [name for name in names if ".scripts." not in name and not name.endswith(".__main__")]
for name in names:
    importlib.import_module(name)
data = ("py.typed", "otel_pipeline.schema.json", "telemetry.yaml", "testing/messaging-requirements.json")
for file in (*data, "demo/scripts/contracts/digits.raw.json"):
    assert (home / file).is_file(), file
for name in otel_pipeline.__all__:
    getattr(otel_pipeline, name)
pipe = otel_pipeline.instrument("wheel")
assert pipe.active, pipe.status()
print(len(names), "modules imported from the wheel;", pipe)
pipe.shutdown(1)
"""


def main() -> int:
    """Check the wheel; return 0 when it is whole."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)
        environment = empty / "venv"
        venv.create(environment, with_pip=True)
        python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        quiet = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*quiet, "wheel", "--no-deps", "--wheel-dir", str(empty), str(ROOT)], check=True)
        wheel = next(empty.glob("otel_pipeline-*.whl"))
        subprocess.run([*quiet, "install", str(wheel), "pytest"], check=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHONPATH"))}
        clean["OTEL_PIPELINE_STATE_DIR"] = str(empty / "state")
        for command in (
            [str(python), "-c", PROBE],
            [str(python.parent / "otel-pipeline"), "--help"],
            [str(python.parent / "otel-pipeline"), "config"],
            [str(python.parent / "opentelemetry-instrument"), str(python), "-c", "import kafka"],
        ):
            done = subprocess.run(command, cwd=empty, env=clean, check=False, stdout=sys.stderr)
            if done.returncode:
                print(f"failed in the empty environment: {command[0]}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

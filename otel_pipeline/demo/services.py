"""The demo's three services: copies of the shipped scripts, each a process with an environment of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import otel_pipeline
from otel_pipeline.cli.errors import CommandError
from otel_pipeline.own_files import FLAGS, is_locked, is_mine, lock, make_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

RELAYED = ".relayed"
"""The end of a topic's name that is written by what stands between its producer and its consumer."""
LINE = ("import otel_pipeline", "otel_pipeline.instrument()")
# Whatever the user's shell says about Kafka and telemetry is not asked for here: the demo writes nowhere else.
_NOT_OURS = ("OTEL_", "KAFKA_", "TOPIC_PREFIX", "RELAYED_SUFFIX", "MESSAGES", "PAUSE_SECONDS", "IDLE_MS")
_WRAPPER = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
START_SECONDS = 120.0
"""How long a machine that does much else may need to start a service: it imports some hundred modules."""
_RUN = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]+")
_LOCK = "running.lock"
_TAIL_LINES = 15
_POLL_SECONDS = 0.05


@dataclass
class Service:
    """A running script."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def failed(self) -> bool:
        """Tell whether it has ended with a failure."""
        return self.process.poll() not in {None, 0}

    def tail(self) -> str:
        """Return the last lines it said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def wait_for(self, word: str, seconds: float) -> None:
        """Wait until it has said a word, has ended, or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if word in self.log.read_text(errors="replace"):
                return
            time.sleep(_POLL_SECONDS)


def scripts_folder() -> Path:
    """Find the scripts: inside the wheel, or in a checkout."""
    package = Path(otel_pipeline.__file__).parent
    for folder in (package / "demo" / "scripts", package.parent / "examples" / "demo"):
        if (folder / "ingest.py").is_file():
            return folder
    raise CommandError("the demo's scripts are not installed", "pip install --force-reinstall otel-pipeline")


def copy_scripts(target: Path, *, with_line: bool, prefix: str = "") -> None:
    """Copy scripts, configuration and contracts. Without the line, nothing of this package is left, which is checked.

    Args:
        target: made here.
        with_line: whether the services keep the one line.
        prefix: what the topics' names begin with, and so the names of their contracts.
    """
    target.mkdir(parents=True)
    for path in scripts_folder().iterdir():
        if path.suffix not in {".py", ".yaml"}:
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py" and not with_line:
            text = without_line(text)
        (target / path.name).write_text(text, encoding="utf-8")
    (target / "contracts").mkdir()
    for path in (scripts_folder() / "contracts").glob("*.json"):
        for suffix in ("", RELAYED):
            shutil.copyfile(path, target / "contracts" / f"{prefix}{path.stem}{suffix}.json")


def without_line(script: str) -> str:
    """Return the script without the one line and its import."""
    left = "".join(line for line in script.splitlines(keepends=True) if line.strip() not in LINE)
    if "otel_pipeline" in left:
        raise AssertionError("a demo script has more telemetry code than the one line")
    return left


CLIENTS = {"kafka-python": "", "confluent": "_confluent", "aiokafka": "_aiokafka"}
"""By the client that they use, how the names of the services' scripts end."""
PACKAGES = {"kafka-python": "kafka", "confluent": "confluent_kafka", "aiokafka": "aiokafka"}
MIXED = {"ingest": "aiokafka", "features": "confluent", "scorer": "kafka-python"}
"""Which client each service uses where each has another one."""


def start(
    name: str,
    folder: Path,
    variables: Mapping[str, str],
    *,
    wrapper: bool,
    client: str = "kafka-python",
    python: str = sys.executable,
) -> Service:
    """Start the script of this service for this client; what it says goes to `folder/name.log`."""
    command = [python, f"{name}{CLIENTS[client]}.py"]
    if wrapper:  # What the script `opentelemetry-instrument` does, wherever that is installed.
        command = [python, "-c", _WRAPPER, *command]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(variables), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    return Service(name, process, log)


def environment(variables: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the user's environment variables without Kafka and telemetry settings, and with `variables`."""
    kept = {name: value for name, value in environ.items() if not name.upper().startswith(_NOT_OURS)}
    root = Path(otel_pipeline.__file__).parent.parent
    if root.name not in {"site-packages", "dist-packages"}:  # A checkout that is not installed.
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), kept.get("PYTHONPATH"))))
    return {**kept, "PYTHONUNBUFFERED": "1", **variables}


def stop(services: list[Service], seconds: float = 5.0) -> None:
    """End those that still run, by the process that was started."""
    running = [service.process for service in services if service.process.poll() is None]
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def fresh_folder(parent: Path, *, keep: bool) -> Path:
    """Make an empty folder for this run. Of earlier runs the newest two stay, or all of them, and those that go on.

    It has a lock until this process ends.
    """
    try:
        make_folder(parent)
        earlier = sorted(path for path in parent.iterdir() if _RUN.fullmatch(path.name) and is_mine(path.lstat()))
        for old in [] if keep else earlier[:-2]:
            if is_locked(old / _LOCK) is not True:
                shutil.rmtree(old, ignore_errors=True)
        folder = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        folder.mkdir(mode=0o700)
        lock(os.open(folder / _LOCK, FLAGS | os.O_RDWR, 0o600), exclusive=True)
    except OSError as error:
        raise CommandError(
            f"nothing can be written to {parent}: {error.strerror or error}",
            "set OTEL_PIPELINE_STATE_DIR to another folder",
        ) from None
    return folder

"""Builds each real part into a folder that is given, from the pins beside this file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PINS = Path(__file__).parent


class BuildError(Exception):
    """A part could not be fetched or built; the text ends with what the tool said."""


def say(text: str) -> None:
    """Say on stderr how far it is."""
    print(f"real: {text}", file=sys.stderr, flush=True)


def tail(log: Path, lines: int = 40) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def build_kafka(folder: Path) -> None:
    """Take Apache Kafka's jars from Maven."""
    _copy_jars(PINS / "kafka/pom.xml", folder)


def build_java(folder: Path) -> None:
    """Take the Java agent and Kafka's client from Maven, and compile the relay."""
    _copy_jars(PINS / "java/pom.xml", folder)
    (agent,) = folder.glob("libs/opentelemetry-javaagent-*.jar")
    agent.rename(folder / "opentelemetry-javaagent.jar")
    _run(["javac", "-cp", "libs/*", "-d", ".", str(PINS / "java/Relay.java")], folder)


def build_collector(folder: Path) -> None:
    """Build the Collector with Go, from our list of components."""
    source = folder / "source"
    shutil.copytree(PINS / "collector", source)
    # The builder belongs to a release as the components do.
    (version,) = re.findall(r"receiver/otlpreceiver (v\S+)", (source / "builder.yaml").read_text())
    builder = f"go.opentelemetry.io/collector/cmd/builder@{version}"
    flags = {"GOFLAGS": "-buildvcs=false"}
    _run(["go", "install", builder], source, {**flags, "GOBIN": str(source)})
    # Without its `go mod tidy`, which asks for modules that only tests of tests need: our go.mod is complete.
    generate = ["./builder", "--config", "builder.yaml", "--skip-compilation", "--skip-get-modules"]
    _run(generate, source)
    for pin in ("go.mod", "go.sum"):
        shutil.copy(source / pin, source / "build" / pin)
    binary = str(folder / "otelcol")
    compiling = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", binary, "."]
    _run(compiling, source / "build", flags)
    shutil.rmtree(source)


def build_promtool(folder: Path) -> None:
    """Take promtool out of the distribution's package."""
    # The version is the distribution's, which keeps one: a pinned one would be gone after its next correction.
    package = PINS.joinpath("promtool/debian-package").read_text().strip()
    _run(["apt-get", "download", package], folder)
    (archive,) = folder.glob(f"{package}_*.deb")
    _run(["dpkg", "-x", archive.name, "unpacked"], folder)
    folder.joinpath("unpacked/usr/bin/promtool").rename(folder / "promtool")
    archive.unlink()
    shutil.rmtree(folder / "unpacked")


def build_hosts(folder: Path) -> None:
    """Install the servers whose workers are forked or spawned, for the Python that runs this."""
    # In an environment of its own, since not every Python has pip; it is left here, and what it installs can be moved.
    environment = folder / "environment"
    _run([sys.executable, "-m", "venv", str(environment)], folder)
    install = [
        "bin/python",
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--target",
        str(folder / "libs"),
    ]
    _run([*install, "-r", str(PINS / "hosts/requirements.txt")], environment)
    shutil.rmtree(environment)


def _copy_jars(pom: Path, folder: Path) -> None:
    libs = f"-DoutputDirectory={folder / 'libs'}"
    _run(["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime", libs], folder)


def _run(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run one step of a build; say every half minute that it is still at it."""
    say(" ".join(command))
    with tempfile.NamedTemporaryFile(prefix="otel-pipeline-build-", suffix=".log") as log:
        started = time.monotonic()
        # A session of its own, so that an interrupt ends the compilers too.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=30)
                    break
                except subprocess.TimeoutExpired:
                    say(f"... {command[0]}, {time.monotonic() - started:.0f} s")
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if status:
            raise BuildError(f"{' '.join(command)} ended with {status}:\n{tail(Path(log.name))}")

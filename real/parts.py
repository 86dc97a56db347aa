"""Fetches or builds each real part once, into a cache folder named for a hash of the part's pins."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from real import builds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOOLS = {
    "java": "a Java runtime, 17 or newer (Debian: openjdk-17-jdk-headless)",
    "javac": "a Java development kit, 17 or newer (Debian: openjdk-17-jdk-headless)",
    "mvn": "Apache Maven (Debian: maven)",
    "go": "Go, at least the version in real/collector/go.mod (https://go.dev/dl)",
    "cc": "a C compiler, and Python's headers (Debian: gcc, python3-dev)",
    "apt-get": "apt (Debian and Ubuntu; it is not available elsewhere)",
    "dpkg": "dpkg (Debian and Ubuntu; it is not available elsewhere)",
}


class PartMissingError(Exception):
    """A part, or a tool that it needs, is not on this machine; the text says what to do."""


@dataclass(frozen=True)
class Part:
    """One real program: the files that pin it, the tools that make it, the tools that run it."""

    name: str
    title: str
    pins: tuple[str, ...]
    build_tools: tuple[str, ...]
    run_tools: tuple[str, ...]
    build: Callable[[Path], None]
    built_for: str = ""
    """What else it depends on: a Python's version."""

    @property
    def folder(self) -> Path:
        """Where this part is, or would be; another platform or other pins give another folder."""
        digest = hashlib.sha256(f"{sys.platform} {platform.machine()}{self.built_for}".encode())
        for pin in self.pins:
            digest.update(builds.PINS.joinpath(pin).read_bytes())
        return cache() / f"{self.name}-{digest.hexdigest()[:12]}"

    def found(self) -> Path | None:
        """Return the part's folder, or None when it has not been fetched."""
        return self.folder if self.folder.is_dir() else None

    def required(self) -> Path:
        """Return the part's folder, ready to run.

        Raises:
            PartMissingError: when it has not been fetched, or what runs it is not installed.
        """
        folder = self.found()
        if folder is None:
            raise PartMissingError(
                f"{self.title} has not been fetched; `make real` or `python -m real fetch {self.name}` does"
            )
        _need(self.title, self.run_tools)
        return folder

    def fetch(self) -> Path:
        """Return the part's folder, made first if need be; other processes wait meanwhile.

        Raises:
            PartMissingError: when a tool that builds it is not installed.
            BuildError: when the tool failed.
        """
        folder = self.folder
        if not folder.is_dir():
            _need(self.title, (*self.build_tools, *self.run_tools))
            with _locked(folder.with_suffix(".lock"), self.title):
                if not folder.is_dir():
                    self._make(folder)
        return folder

    def _make(self, folder: Path) -> None:
        # Whoever holds the lock is alone, so what an interrupted build left here is nobody's.
        for left in folder.parent.glob(f"{folder.name}.building-*"):
            shutil.rmtree(left, ignore_errors=True)
        building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=folder.parent))
        started = time.monotonic()
        builds.say(f"{self.title}: fetching into {folder}")
        try:
            self.build(building)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        builds.say(f"{self.title}: ready after {time.monotonic() - started:.0f} s")


def cache() -> Path:
    """Return the folder that holds every part, outside the checkout."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "otel-pipeline"


def kafka_home() -> Path | None:
    """Return the folder whose `libs` are Apache Kafka, or None when it has not been fetched."""
    return KAFKA.found()


def fetch_kafka() -> Path:
    """Return the same folder, fetched when it is not there."""
    return KAFKA.fetch()


def collector_binary() -> Path | None:
    """Return the OpenTelemetry Collector, or None when it has not been built."""
    folder = COLLECTOR.found()
    return folder / "otelcol" if folder else None


def fetch_collector() -> Path:
    """Return the Collector, built when it is not there, which takes minutes."""
    return COLLECTOR.fetch() / "otelcol"


def java_relay() -> Path | None:
    """Return the folder with Relay.class, `libs` and the Java agent, or None when it has not been fetched."""
    return JAVA.found()


def fetch_java() -> Path:
    """Return the same folder, fetched when it is not there."""
    return JAVA.fetch()


def promtool_binary() -> Path | None:
    """Return Prometheus' tool that checks and tests rules, or None when it has not been fetched."""
    folder = PROMTOOL.found()
    return folder / "promtool" if folder else None


def fetch_promtool() -> Path:
    """Return the same tool, fetched when it is not there; nothing is installed."""
    return PROMTOOL.fetch() / "promtool"


KAFKA = Part(
    name="kafka",
    title="Apache Kafka",
    pins=("kafka/pom.xml",),
    build_tools=("mvn",),
    run_tools=("java",),
    build=builds.build_kafka,
)
COLLECTOR = Part(
    name="collector",
    title="OpenTelemetry Collector",
    pins=("collector/builder.yaml", "collector/go.mod", "collector/go.sum"),
    build_tools=("go",),
    run_tools=(),
    build=builds.build_collector,
)
JAVA = Part(
    name="java",
    title="OpenTelemetry Java agent",
    pins=("java/pom.xml", "java/Relay.java"),
    build_tools=("mvn", "javac"),
    run_tools=("java",),
    build=builds.build_java,
)
HOSTS = Part(
    name="hosts",
    title="gunicorn, uvicorn, celery and uWSGI",
    pins=("hosts/requirements.txt",),
    build_tools=("cc",),
    run_tools=(),
    build=builds.build_hosts,
    built_for=str(sys.implementation.cache_tag),
)
PROMTOOL = Part(
    name="promtool",
    title="promtool",
    pins=("promtool/debian-package",),
    build_tools=("apt-get", "dpkg"),
    run_tools=(),
    build=builds.build_promtool,
)
# promtool last: where apt-get is not, `fetch` has made the others first.
PARTS = {part.name: part for part in (KAFKA, COLLECTOR, JAVA, HOSTS, PROMTOOL)}


def _need(title: str, tools: tuple[str, ...]) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        wanted = "; ".join(f"`{tool}`: install {TOOLS[tool]}" for tool in missing)
        raise PartMissingError(f"{title} needs {wanted}")


@contextmanager
def _locked(path: Path, title: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            builds.say(f"{title}: another process is fetching it, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

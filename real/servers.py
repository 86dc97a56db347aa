"""Starts a broker, a Collector or the Java relay on 127.0.0.1 and free ports, and ends what it started."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from real import builds, parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

COLLECTOR_CONFIG = Path(__file__).parent.parent / "collector-config/otelcol.yaml"
START_SECONDS = 60
END_SECONDS = 10
ATTEMPTS = 3

KAFKA_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.backoff.ms": "500",
}


class StartError(Exception):
    """A server ended, or was not ready in time; the text ends with the tail of its log, which is kept."""


class _PortTakenError(Exception):
    """Somebody took a port between our finding it free and the server's binding it."""


@dataclass(frozen=True)
class _Launch:
    """How to start a server, what the caller gets, and how to tell that it is ready."""

    command: Sequence[str]
    server: Any
    is_ready: Callable[[], bool]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Broker:
    """A running Kafka broker."""

    bootstrap: str
    log: Path | None = None
    command: Sequence[str] = ()
    """What it was started with: started again when it has ended, it has the same address and the same log."""
    pid: int | None = None
    """None where somebody else has started it."""


@dataclass(frozen=True)
class Collector:
    """A running Collector, and the file of OTLP JSON lines that it writes."""

    http: str
    grpc: str
    output: Path
    log: Path | None = None

    def spans(self, trace_id: str, *, count: int = 1, timeout_seconds: float = 10) -> list[dict[str, Any]]:
        """Return the trace's spans as OTLP JSON, once there are `count`, or those that came in time."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            found = [span for span in self._all_spans() if span["traceId"] == trace_id]
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def _all_spans(self) -> Iterator[dict[str, Any]]:
        if not self.output.exists():
            return
        # Without the part after the last newline: a line that is still being written.
        for line in self.output.read_text(encoding="utf-8").split("\n")[:-1]:
            for resource in json.loads(line).get("resourceSpans", ()):
                for scope in resource["scopeSpans"]:
                    yield from scope["spans"]


@contextmanager
def kafka_broker(properties: Mapping[str, str] | None = None) -> Iterator[Broker]:
    """Run one KRaft node with an empty log; `properties` are added to its own.

    Raises:
        PartMissingError: when Kafka has not been fetched, or Java is not installed.
        StartError: when it does not start.
    """
    java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    java += ["-Dorg.apache.logging.log4j.level=WARN", "-cp", f"{parts.KAFKA.required()}/libs/*"]

    def prepare(folder: Path) -> _Launch:
        port, controller = _free_ports(2)
        lines = {
            **KAFKA_PROPERTIES,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "log.dirs": str(folder / "data"),
            **(properties or {}),
        }
        file = folder / "kraft.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        storage = ["kafka.tools.StorageTool", "format", "--standalone", "-t", _cluster_id(), "-c", str(file)]
        _complete([*java, *storage], START_SECONDS)
        command = [*java, "kafka.Kafka", str(file)]
        broker = Broker(f"127.0.0.1:{port}", folder / "log", command)
        return _Launch(command, broker, lambda: _serves_metadata(port))

    with _served("kafka", prepare) as (broker, pid):
        yield replace(broker, pid=pid)


@contextmanager
def collector(
    config: Path = COLLECTOR_CONFIG, environment: Mapping[str, str] | None = None, *, more: Sequence[Path] = ()
) -> Iterator[Collector]:
    """Run a Collector whose configuration takes addresses and file from the variables of collector-config/otelcol.yaml.

    `more` are files that are merged into it.

    Raises:
        PartMissingError: when the Collector has not been built.
        StartError: when it does not start.
    """
    command = [f"{parts.COLLECTOR.required()}/otelcol"]
    for file in (config, *more):
        command += ["--config", str(file.absolute())]

    def prepare(folder: Path) -> _Launch:
        over_http, over_grpc, health = (f"127.0.0.1:{port}" for port in _free_ports(3))
        output = folder / "telemetry.jsonl"
        variables = {
            "OTELCOL_HTTP_ENDPOINT": over_http,
            "OTELCOL_GRPC_ENDPOINT": over_grpc,
            "OTELCOL_HEALTH_ENDPOINT": health,
            "OTELCOL_FILE": str(output),
            # A rotated file would hide from a test what it sent earlier.
            "OTELCOL_FILE_MAX_MEGABYTES": "100000",
            "OTELCOL_METRICS_LEVEL": "none",
            **(environment or {}),
        }
        running = Collector(f"http://{over_http}", f"http://{over_grpc}", output, folder / "log")
        return _Launch(command, running, lambda: _is_healthy(health), variables)

    with _served("collector", prepare) as (running, _pid):
        yield running


def relay(
    broker: Broker, collector: Collector, source: str, target: str, *, count: int, timeout_seconds: int = 60
) -> None:
    """Let a Java service, traced by the Java agent, send `count` messages of one topic on to another.

    Raises:
        PartMissingError: when the agent has not been fetched, or Java is not installed.
        StartError: when it failed, or there were not that many messages in time.
    """
    home = parts.JAVA.required()
    variables = {
        "OTEL_SERVICE_NAME": "java-relay",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    java = ["java", "-XX:TieredStopAtLevel=1", f"-javaagent:{home}/opentelemetry-javaagent.jar"]
    java += ["-cp", f"{home}/libs/*:{home}", "Relay"]
    arguments = [broker.bootstrap, source, target, str(count), str(timeout_seconds)]
    _complete([*java, *arguments], timeout_seconds + START_SECONDS, variables)


@contextmanager
def _served(name: str, prepare: Callable[[Path], _Launch]) -> Iterator[tuple[Any, int]]:
    for _attempt in range(ATTEMPTS):
        try:
            with _folder(name) as folder:
                launch = prepare(folder)
                with _process(launch, folder / "log") as process:
                    _wait_until_ready(process, launch, folder / "log")
                    yield launch.server, process.pid
                    return
        except _PortTakenError:
            continue
    raise StartError(f"{name}: the ports that were free were taken, {ATTEMPTS} times")


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """Make a temporary folder, kept only when the start fails: its log is the evidence."""
    folder = Path(tempfile.mkdtemp(prefix=f"otel-pipeline-{name}-"))
    try:
        yield folder
    except StartError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _process(launch: _Launch, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server in a process group of its own, which ends with this context or with this process."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.command,
            env=_environment(launch.variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with _ended_with_us(process.pid):
            yield process
    finally:
        _end(process)


@contextmanager
def _ended_with_us(group: int) -> Iterator[None]:
    """End a process group when this process is killed: its end of the pipe closes, and a shell wakes up."""
    script = 'read -r _; kill -s TERM -- "-$1"; sleep "$2"; kill -s KILL -- "-$1"'
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", str(group), str(END_SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], launch: _Launch, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        if launch.is_ready():
            return
        if time.monotonic() > deadline:
            raise StartError(
                f"{launch.command[0]} was not ready after {START_SECONDS} s; {log} ends:\n{builds.tail(log)}"
            )
        time.sleep(0.1)
    text = f"{launch.command[0]} ended with {process.returncode}; {log} ends:\n{builds.tail(log)}"
    raise _PortTakenError(text) if "ddress already in use" in text else StartError(text)


def _complete(command: Sequence[str], timeout_seconds: float, variables: Mapping[str, str] | None = None) -> None:
    """Run a Java program to its end."""
    try:
        done = subprocess.run(
            command,
            env=_environment(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise StartError(f"{' '.join(command)} had not ended after {timeout_seconds} s") from late
    if done.returncode:
        raise StartError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return our environment variables and `variables`, without our OTEL_* and OTELCOL_*, meant for another service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELCOL_"))}
    return {**kept, **variables}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _cluster_id() -> str:
    # 16 random bytes; the first are fixed because Kafka's tool would take a leading "-" for an option.
    return base64.urlsafe_b64encode(b"otel" + os.urandom(12)).decode().rstrip("=")


def _serves_metadata(port: int) -> bool:
    """Tell whether the broker answers a Metadata request (version 1, about no topic) with itself in it."""
    metadata, version, no_client_id, no_topics = 3, 1, -1, 0
    request = struct.pack(">hhihi", metadata, version, 1, no_client_id, no_topics)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                _size, _correlation, brokers = struct.unpack(">iii", answer.read(12))
    except (OSError, struct.error):
        return False
    return bool(brokers)


def _is_healthy(address: str) -> bool:
    # Not urllib, which would send this to a configured proxy.
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

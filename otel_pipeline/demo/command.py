"""`otel-pipeline demo`: three services in three environments, one broker, one trace per message, checked at the end."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.cli.terminal import add_color_option, detect, duration
from otel_pipeline.config.state_folder import demo_folder
from otel_pipeline.demo.check import RAW, SERVICES, TOPICS, Verdict, check
from otel_pipeline.demo.lights import settled
from otel_pipeline.demo.screen import Progress, Result, screen
from otel_pipeline.demo.services import (
    CLIENTS,
    MIXED,
    PACKAGES,
    START_SECONDS,
    Service,
    copy_scripts,
    fresh_folder,
    start,
    stop,
)
from otel_pipeline.demo.topics import Broker, Witness, embedded, real
from otel_pipeline.dev.receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import LogRecord, SpanRecord, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from otel_pipeline.cli.terminal import Terminal
    from otel_pipeline.demo.lights import HopLights

    _Told = tuple[bool, Callable[[Terminal], Iterator[str]]]

IMAGES = 1797
_STUCK_SECONDS = 30.0
_EXIT_SECONDS = 20.0
_PAUSE_SECONDS = 0.004
_CONNECT_SECONDS = 3.0
_TERMINATED = 143
NOTHING: Mapping[str, str] = MappingProxyType({})


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="three services, one broker, one trace: see it work on this machine",
        description="Streams the scanned digits that scikit-learn ships through three services, each in an environment "
        "of its own, checks that every message arrived in one whole trace, and draws one. Without --bootstrap and "
        "--export nothing leaves this machine, whatever the shell's OTEL_* variables say.",
    )
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a Kafka of yours instead of the embedded broker")
    parser.add_argument("--export", metavar="URL", help="send the telemetry to this OTLP endpoint (http/protobuf)")
    parser.add_argument(
        "--wrapper", action="store_true", help="start the services under opentelemetry-instrument, without the one line"
    )
    parser.add_argument(
        "--client",
        choices=(*CLIENTS, "mixed"),
        default="kafka-python",
        help="the Kafka client that the services use; mixed: each another one (default kafka-python)",
    )
    parser.add_argument(
        "--faults", action="store_true", help="put faults between the services: is each found, and none invented?"
    )
    parser.add_argument(
        "--messages", type=_messages, default=IMAGES, metavar="N", help=f"how many messages (default {IMAGES})"
    )
    parser.add_argument("--keep", action="store_true", help="keep earlier runs' folders, and the topics on your Kafka")
    add_color_option(parser)
    parser.set_defaults(run=run)


def _messages(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= IMAGES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {IMAGES}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 if every message arrived in a whole trace, or every fault was found and none invented."""
    _check_requirements(arguments)
    # So that the services are ended also when this is ended from outside.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        demo = _Demo(arguments, Progress(sys.stderr))
        passed, lines = demo.run_with_faults() if arguments.faults else demo.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    for line in lines(detect(sys.stdout, no_color=arguments.no_color)):
        print(line)
    return 0 if passed else 1


def _check_requirements(arguments: argparse.Namespace) -> None:
    for module, extra in (("sklearn", "demo"), ("loguru", ""), ("kafka", "")):
        if find_spec(module) is None:
            package = f"otel-pipeline[{extra}]" if extra else "otel-pipeline"
            raise CommandError(f"the demo needs {module}", f"pip install '{package}'")
    for client in sorted(set(_clients(arguments).values())):
        if find_spec(PACKAGES[client]) is None:
            raise CommandError(
                f"--client {arguments.client} needs {PACKAGES[client]}", "pip install 'otel-pipeline[demo]'"
            )
    if arguments.wrapper and not any(
        point.value.startswith("otel_pipeline.") for point in entry_points(group="opentelemetry_distro")
    ):
        raise CommandError(
            "opentelemetry-instrument finds otel-pipeline only where it is installed", "pip install otel-pipeline"
        )
    if arguments.faults:
        _check_faults(arguments)
    _check_addresses(arguments)


def _clients(arguments: argparse.Namespace) -> Mapping[str, str]:
    """Return the client of each service."""
    return MIXED if arguments.client == "mixed" else dict.fromkeys(SERVICES, arguments.client)


def _check_faults(arguments: argparse.Namespace) -> None:
    if find_spec("confluent_kafka") is None:
        raise CommandError("--faults needs confluent_kafka", "pip install 'otel-pipeline[demo]'")
    if arguments.export or arguments.messages != IMAGES:
        raise CommandError("--faults reads the telemetry and needs all messages", "leave --export and --messages out")
    if arguments.client != "kafka-python":
        raise CommandError("--faults is tried with kafka-python alone", "leave --client out")


def _check_addresses(arguments: argparse.Namespace) -> None:
    if arguments.export:
        parts = _parts(arguments.export)
        if parts is None or parts[0] not in {"http", "https"}:
            raise CommandError(
                f"{arguments.export!r} is no OTLP endpoint", "for example --export http://127.0.0.1:4318"
            )
        _check_answers(arguments.export, *parts[1:])
    if arguments.bootstrap:
        parts = _parts(f"kafka://{arguments.bootstrap.split(',')[0]}")
        if parts is None:
            raise CommandError(f"{arguments.bootstrap!r} is no broker", "for example --bootstrap 127.0.0.1:9092")
        _check_answers(arguments.bootstrap, *parts[1:])


def _parts(url: str) -> tuple[str, str, int] | None:
    """Split the URL into scheme, host and port; None where it is no address."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 9092)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


def _check_answers(address: str, host: str, port: int) -> None:
    """Raise at once when nobody answers; clients would try for half a minute before they say so."""
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise CommandError(f"nobody answers at {address}: {error}") from None


@dataclass(frozen=True)
class _Scene:
    """What a run has."""

    began: float
    """When it began, monotonic, s."""
    folder: Path
    broker: Broker
    endpoint: str
    services: list[Service]
    witness: Witness


@dataclass
class _Demo:
    """One run."""

    arguments: argparse.Namespace
    progress: Progress

    def run(self) -> _Told:
        """Stream without faults: every message is to be in one whole trace."""
        with ExitStack() as stack:
            scene = self._scene(stack)
            self._start(scene)
            self._stream(scene.services, scene.witness)
            lights = settled(scene.folder / "health", self.arguments.messages)
            notes = [*scene.witness.too_busy(_PAUSE_SECONDS), *self._end(scene.services)]
        if not self.arguments.export:
            self.progress.say(f"reading the telemetry, {duration(time.monotonic() - scene.began)} after the start")
        result = self._result(scene, notes, lights)
        return result.passed, partial(screen, result)

    def run_with_faults(self) -> _Told:
        """Stream with faults: every fault is to be found, and none invented."""
        from otel_pipeline.demo import (
            faults,  # needs an extra
            faults_screen,
        )

        with ExitStack() as stack:
            scene = self._scene(stack, faults.RELAYED_TOPICS)
            services = scene.services
            stream = faults.FaultyStream(
                scene.broker, scene.folder, self.arguments.messages, self.progress, lambda: _check_all(services)
            )
            stream.start(stack)
            self._start(scene, faults.VARIABLES)
            self.progress.say("faults one after the other; each is to be found")
            stream.run(scene.witness)
            result = stream.result(scene.witness, lambda: self._end(services), scene.began)
        return result.passed, partial(faults_screen.screen, result)

    def _scene(self, stack: ExitStack, topics: Sequence[str] = ()) -> _Scene:
        """Set up broker, folder, receiver and witness; all of it goes with the stack."""
        began = time.monotonic()
        arguments = self.arguments
        folder = fresh_folder(demo_folder(), keep=arguments.keep)
        stack.callback(self.progress.close)
        wanted = (*TOPICS, *topics)
        broker = stack.enter_context(
            real(arguments.bootstrap, keep=arguments.keep, topics=wanted) if arguments.bootstrap else embedded(wanted)
        )
        self.progress.say(f"broker: {broker.title}")
        copy_scripts(folder / "services", with_line=not arguments.wrapper, prefix=broker.prefix)
        endpoint = arguments.export or stack.enter_context(otlp_receiver(folder / "telemetry"))
        services: list[Service] = []
        stack.callback(stop, services)
        witness = Witness(broker)
        stack.callback(witness.close)
        return _Scene(began, folder, broker, endpoint, services, witness)

    def _start(self, scene: _Scene, more: Mapping[str, str] = NOTHING) -> None:
        """Start the services, consumers first: `ingest` starts when they listen."""
        services, scripts = scene.services, scene.folder / "services"
        shared = {**scene.broker.variables, "OTEL_EXPORTER_OTLP_ENDPOINT": scene.endpoint}
        shared |= {"PAUSE_SECONDS": str(_PAUSE_SECONDS), **more}
        wrapper = self.arguments.wrapper
        how = "under opentelemetry-instrument, without a line of it" if wrapper else "with one line each"
        clients = _clients(self.arguments)
        named = " -> ".join(f"{name} ({tier}, {clients[name]})" for name, tier in SERVICES.items())
        self.progress.say(f"starting {named}, {how}")
        for name in ("scorer", "features", "ingest"):
            if name == "ingest":
                self.progress.say("training the model on half of the images")
                for service in services:
                    service.wait_for("ready", START_SECONDS)
                    _check(service)
            variables = {**shared, **self._variables(name, scripts)}
            services.append(start(name, scripts, variables, wrapper=wrapper, client=clients[name]))

    def _variables(self, name: str, scripts: Path) -> Mapping[str, str]:
        """Return one service's variables; only the first two say how the three processes differ."""
        return {
            "OTEL_SERVICE_NAME": name,
            "OTEL_PIPELINE_ENVIRONMENT": SERVICES[name],
            "OTEL_PIPELINE_STATE_DIR": str(scripts.parent),
            # Consumers stay until they are asked to end: their health is looked at when all is done.
            "MESSAGES": str(self.arguments.messages if name == "ingest" else 0),
            # They must not give up while the others are still starting, on a machine that does much else.
            **({} if name == "ingest" else {"IDLE_MS": str(int(2 * START_SECONDS * 1000))}),
        }

    def _stream(self, services: list[Service], witness: Witness) -> None:
        """Read along until every image has a prediction, or nothing comes any more."""
        messages = self.arguments.messages
        done, moved = 0, time.monotonic()
        while done < messages:
            now_done = witness.read()
            if now_done > done:
                done, moved = now_done, time.monotonic()
                self.progress.count(done, messages, "classified")
            _check_all(services)
            patience = _STUCK_SECONDS if done else START_SECONDS
            if time.monotonic() - moved > patience:
                self.progress.say(f"nothing came for {patience:.0f} s")
                return
        # The last topic is complete; the others' last messages may not have been read yet.
        witness.read_rest(messages)

    def _end(self, services: list[Service]) -> list[str]:
        """End each service in order; say which did not end."""
        self.progress.say("waiting for the services to hand over their telemetry")
        for service in services:
            if service.name != "ingest" and service.process.poll() is None:
                service.process.terminate()
        deadline = time.monotonic() + _EXIT_SECONDS
        for service in services:
            while service.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            _check(service)
        late = [service.name for service in services if service.process.poll() is None]
        return [f"{name} had not ended after {_EXIT_SECONDS:.0f} s; some of its telemetry may be lost" for name in late]

    def _result(self, scene: _Scene, notes: list[str], lights: Sequence[HopLights]) -> Result:
        arguments, messages = self.arguments, self.arguments.messages
        broker, witness = scene.broker, scene.witness
        judged = {image: pair for image, pair in witness.predictions.items() if image % 2}
        verdict: Verdict | None = None
        spans: list[SpanRecord] = []
        log = None
        telemetry = scene.folder / "telemetry"
        if not arguments.export:
            spans, logs = _read(telemetry)
            verdict = check(spans, messages, broker.prefix)
            typical = verdict.typical
            log = next((each for each in logs if typical and each.trace_id == typical.trace_id), None)
        return Result(
            broker=broker.title,
            messages=messages,
            missing=witness.missing(messages),
            seconds=time.monotonic() - scene.began,
            streaming_seconds=witness.seconds,
            right=sum(seen == label for seen, label in judged.values()),
            judged=len(judged),
            mixed=witness.broken(),
            wrapper=arguments.wrapper,
            verdict=verdict,
            spans=spans,
            log=log,
            telemetry=arguments.export or str(telemetry),
            trace_id=next(iter(witness.trace_ids[RAW].values()), ""),
            notes=notes,
            lights=lights,
        )


def _check_all(services: list[Service]) -> None:
    for service in services:
        _check(service)


def _check(service: Service) -> None:
    if service.failed():
        raise CommandError(
            f"{service.name} ended with code {service.process.returncode}; its last words ({service.log}):",
            service.tail().replace("\n", "\n  "),
        )


def _read(folder: Path) -> tuple[list[SpanRecord], list[LogRecord]]:
    spans: list[SpanRecord] = []
    logs: list[LogRecord] = []
    for path in sorted(folder.glob("*.jsonl")):
        for record in read(path):
            if isinstance(record, SpanRecord):
                spans.append(record)
            elif isinstance(record, LogRecord):
                logs.append(record)
    return spans, logs

"""`python -m real fetch [PART ...]` and `python -m real run [--broker] -- COMMAND`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

from real import builds, parts, servers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit with the command's status, or 2 when a part is missing, not made or not started."""
    options = _parser().parse_args(arguments)
    # Otherwise `kill` would end us without ending what we started.
    signal.signal(signal.SIGTERM, _leave)
    try:
        if options.what == "run":
            return run_beside_broker(options.command) if options.broker else run(options.command)
        for name in options.part or parts.PARTS:
            print(parts.PARTS[name].fetch())
    except (parts.PartMissingError, builds.BuildError, servers.StartError) as error:
        builds.say(str(error))
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def run(command: Sequence[str]) -> int:
    """Run a command beside a broker and a Collector, and return its exit status as a shell would."""
    with servers.kafka_broker() as broker, servers.collector() as collector:
        addresses = {
            "OTEL_PIPELINE_TEST_BOOTSTRAP": broker.bootstrap,
            "OTEL_PIPELINE_TEST_COLLECTOR": collector.http,
            "OTEL_PIPELINE_TEST_COLLECTOR_GRPC": collector.grpc,
            "OTEL_PIPELINE_TEST_COLLECTOR_OUTPUT": str(collector.output),
        }
        return _run(command, addresses)


def run_beside_broker(command: Sequence[str]) -> int:
    """Run a command beside a broker only: tests that run side by side share the broker, but need a Collector each."""
    with servers.kafka_broker() as broker:
        return _run(command, {"OTEL_PIPELINE_TEST_BOOTSTRAP": broker.bootstrap})


def _run(command: Sequence[str], addresses: Mapping[str, str]) -> int:
    for name, value in addresses.items():
        builds.say(f"{name}={value}")
    try:
        process = subprocess.Popen(command, env={**os.environ, **addresses})
    except OSError as error:
        builds.say(f"{command[0]}: {error.strerror}")
        return 127
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # The terminal interrupted the command too, and it may have something to say.
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return 128 - status if status < 0 else status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m real", description="Real Kafka, Collector, Java agent and promtool."
    )
    words = parser.add_subparsers(dest="what", required=True)
    fetch = words.add_parser("fetch", help="fetch or build the parts into the cache; all of them when none is named")
    # Not choices=: argparse would check the empty list against it too.
    fetch.add_argument("part", nargs="*", type=_part, metavar="|".join(parts.PARTS))
    running = words.add_parser("run", help="run a command beside a broker and a Collector")
    running.add_argument("--broker", action="store_true", help="beside a broker alone")
    running.add_argument("command", nargs="+", metavar="-- COMMAND")
    return parser


def _part(name: str) -> str:
    if name not in parts.PARTS:
        text = f"{name!r} is none of {', '.join(parts.PARTS)}"
        raise argparse.ArgumentTypeError(text)
    return name


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())

"""`otel-pipeline broker`: the embedded broker, for trying things out without a Kafka of one's own."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from otel_pipeline.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HINTS = """\
until Ctrl-C; topics are made when they are first used, with 4 partitions; nothing is kept
  kafka-python:    KafkaProducer(bootstrap_servers="{address}", api_version=(2, 3))
  confluent-kafka: Producer({{"bootstrap.servers": "{address}"}})
  the demo:        otel-pipeline demo"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "broker",
        help="a Kafka broker on this machine, for trying things out, until Ctrl-C",
        description="Start librdkafka's mock cluster on a free port of 127.0.0.1 and print its address. It keeps about "
        "5 MB of each partition, in memory, and knows no compaction: for trying things out, not for tests of "
        "Kafka itself.",
    )
    parser.add_argument(
        "topics", nargs="*", type=_topic, metavar="TOPIC[:PARTITIONS]", help="topics to be made at once"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C, which is the way it is meant to end."""
    from otel_pipeline.brokers.embedded import EmbeddedBrokerError, cluster

    try:
        broker = cluster(_partitions(arguments.topics))
    except EmbeddedBrokerError as error:
        raise CommandError(str(error)) from None
    try:
        # The address alone on stdout: a script reads it there.
        print(broker.address, flush=True)
        print(_HINTS.format(address=broker.address), file=sys.stderr, flush=True)
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 0


def _topic(word: str) -> tuple[str, int | None]:
    name, colon, partitions = word.partition(":")
    if not name or (colon and not (partitions.isdecimal() and int(partitions))):
        raise argparse.ArgumentTypeError(f"{word!r} is no TOPIC or TOPIC:PARTITIONS")
    return name, int(partitions) if colon else None


def _partitions(topics: Sequence[tuple[str, int | None]]) -> dict[str, int]:
    from otel_pipeline.brokers.embedded import DEFAULT_PARTITIONS

    return {name: partitions or DEFAULT_PARTITIONS for name, partitions in topics}

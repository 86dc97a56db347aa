"""A Kafka broker that pip alone can install: librdkafka's mock cluster, from confluent-kafka's wheel, as a process.

Clients of kafka-python 3 need `api_version=(2, 3)` with it. It keeps about 5 MB per partition and drops the oldest
messages, knows no compaction, and its transactions are not to be trusted. It answers a fetch only when
`fetch_max_wait_ms` is over, and a group that has to join again waits for its session timeout: calling
`consumer.partitions_for_topic(topic)` before the first poll spares kafka-python that (one time in ten it would join
before it knows the topic). Share groups begin with the first message.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

API_VERSION = (2, 3)
DEFAULT_PARTITIONS = 4
_START_SECONDS = 10.0
_PRODUCER = 0
_FROM_THE_BEGINNING = 1
"""Where a share group begins; on a real broker the group's own setting says, `latest` without it."""


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker cannot be had; the message says what to do."""


@contextmanager
def embedded_broker(topics: Mapping[str, int] | None = None) -> Iterator[str]:
    """Run a broker while the `with` lasts, and yield its bootstrap address.

    Args:
        topics: number of partitions by topic, made before any client connects. Others are made when first used, with 4
            partitions.

    Example:
        with embedded_broker({"orders": 2}) as bootstrap:
            producer = KafkaProducer(bootstrap_servers=bootstrap, api_version=(2, 3))
    """
    wanted = [f"{name}:{partitions}" for name, partitions in (topics or {}).items()]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", __name__, *wanted],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise EmbeddedBrokerError(_last_words(process))
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _last_words(process: subprocess.Popen[str]) -> str:
    lines = process.stderr.read().strip().splitlines() if process.stderr else []
    return lines[-1] if lines else f"the embedded broker ended at once with code {process.wait()}"


def main(argv: list[str] | None = None) -> int:
    """Print the address, then serve until stdin closes, which it does when the parent is done or dead."""
    parser = argparse.ArgumentParser(prog="python -m otel_pipeline.brokers.embedded", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC[:PARTITIONS]")
    topics = dict(_topic(word) for word in parser.parse_args(argv).topics)
    # Ctrl-C reaches the whole group; whoever started this ends it after the services.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        served = cluster(topics)
    except EmbeddedBrokerError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(served.address, flush=True)  # noqa: T201
    sys.stdin.buffer.read()
    return 0


def _topic(word: str) -> tuple[str, int]:
    name, _, partitions = word.rpartition(":")
    return (name, int(partitions)) if name else (word, DEFAULT_PARTITIONS)


def cluster(topics: Mapping[str, int]) -> _MockCluster | _TestCluster:
    """Start a broker in this process; it serves at its `address` for as long as it is held.

    Raises:
        EmbeddedBrokerError: it cannot be had.
    """
    try:
        import confluent_kafka.cimpl  # an extra
    except ImportError as error:
        raise EmbeddedBrokerError(
            "the embedded broker comes with confluent-kafka: pip install 'otel-pipeline[embedded]'"
        ) from error
    try:
        # The symbols of the librdkafka that cimpl is linked to are found through it, wherever the wheel has put that.
        library: Any = ctypes.CDLL(confluent_kafka.cimpl.__file__)
        library.rd_kafka_mock_cluster_new  # noqa: B018
    except (OSError, AttributeError):  # Windows looks into one library only.
        return _TestCluster(topics)
    return _MockCluster(library, topics)


class _MockCluster:
    """The mock cluster through its own functions: partitions as wanted, and groups that are joined without delay."""

    def __init__(self, library: Any, topics: Mapping[str, int]) -> None:
        pointers = ("conf_new", "new", "mock_cluster_new", "mock_cluster_bootstraps")
        for name in pointers:
            getattr(library, f"rd_kafka_{name}").restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        error = ctypes.create_string_buffer(512)
        settings = ctypes.c_void_p(library.rd_kafka_conf_new())
        size = ctypes.c_size_t(ctypes.sizeof(error))
        library.rd_kafka_conf_set(settings, b"log_level", b"0", error, size)
        client = library.rd_kafka_new(_PRODUCER, settings, error, size)
        if not client:
            raise EmbeddedBrokerError(f"librdkafka does not start: {error.value.decode(errors='replace')}")
        cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(ctypes.c_void_p(client), 1))
        if hasattr(library, "rd_kafka_mock_group_initial_rebalance_delay_ms"):  # Older ones take 3 s to join.
            library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, ctypes.c_int32(0))
        if hasattr(library, "rd_kafka_mock_sharegroup_set_auto_offset_reset"):
            library.rd_kafka_mock_sharegroup_set_auto_offset_reset(cluster, ctypes.c_int(_FROM_THE_BEGINNING))
        for name, partitions in topics.items():
            if partitions < 1 or library.rd_kafka_mock_topic_create(cluster, name.encode(), partitions, 1):
                raise EmbeddedBrokerError(
                    f"the embedded broker refuses the topic {name!r} with {partitions} partitions"
                )
        self.address = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()


class _TestCluster:
    """The mock cluster through a producer's test setting: four partitions per topic, whatever is wanted."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        from confluent_kafka import Producer  # an extra

        self._producer = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 0})
        brokers = self._producer.list_topics(timeout=_START_SECONDS).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        for name, partitions in topics.items():
            if partitions != DEFAULT_PARTITIONS:
                raise EmbeddedBrokerError(
                    f"the embedded broker has {DEFAULT_PARTITIONS} partitions a topic here; {name!r} wants {partitions}"
                )
            self._producer.list_topics(name, timeout=_START_SECONDS)


if __name__ == "__main__":
    sys.exit(main())

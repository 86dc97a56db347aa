"""The demo's broker and topics, and a witness that reads along without any telemetry code."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.demo.check import PREDICTIONS, RAW, TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PARTITIONS = 4
_TRACE_ID = slice(3, 35)
_POLL_MS = 200
_TOPICS_SECONDS = 15.0
_REST_SECONDS = 5.0
_FEWEST, _SLOWER = 50, 2
"""A machine is too busy when so many scans took so many times as long as their pauses; an idle one takes 1.3 times."""


class Broker:
    """Where the demo's messages go: address, how to talk to it, and the beginning of the topics' names."""

    def __init__(self, bootstrap: str, api_version: tuple[int, int] | None, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.api_version = api_version
        self.prefix = prefix

    @property
    def title(self) -> str:
        """For people."""
        kind = "embedded (librdkafka's mock cluster)" if self.api_version else "Kafka"
        return f"{kind} at {self.bootstrap}" + (f", topics {self.prefix}*" if self.prefix else "")

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a kafka-python client."""
        version = {"api_version": self.api_version} if self.api_version else {}
        return {"bootstrap_servers": self.bootstrap, **version}

    @property
    def variables(self) -> dict[str, str]:
        """The same for the services."""
        found = {"KAFKA_BOOTSTRAP": self.bootstrap, "TOPIC_PREFIX": self.prefix}
        if self.api_version:
            found["KAFKA_API_VERSION"] = ".".join(map(str, self.api_version))
        return found


@contextmanager
def embedded(topics: Sequence[str] = TOPICS) -> Iterator[Broker]:
    """Run a broker of our own, which is gone afterwards."""
    from otel_pipeline.brokers.embedded import (  # only here an extra is needed
        API_VERSION,
        EmbeddedBrokerError,
        embedded_broker,
    )

    try:
        with embedded_broker(dict.fromkeys(topics, PARTITIONS)) as bootstrap:
            yield Broker(bootstrap, API_VERSION, "")
    except EmbeddedBrokerError as error:
        raise CommandError(str(error), "or use a broker of yours: `otel-pipeline demo --bootstrap HOST:PORT`") from None


@contextmanager
def real(bootstrap: str, *, keep: bool, topics: Sequence[str] = TOPICS) -> Iterator[Broker]:
    """Use the user's broker, with topics that only this run uses; they are deleted afterwards unless kept."""
    from kafka import __version__  # not for `--help`
    from kafka.admin import KafkaAdminClient, NewTopic

    # The broker's own default, which kafka-python 2 does not let one ask for.
    replicas = -1 if int(__version__.split(".")[0]) > 2 else 1  # noqa: PLR2004
    from kafka.errors import KafkaError

    prefix = f"otelp-demo-{uuid4().hex[:6]}."
    names = [prefix + topic for topic in topics]
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        admin.create_topics([NewTopic(name, num_partitions=PARTITIONS, replication_factor=replicas) for name in names])
        _wait_for(admin, names)
    except (KafkaError, ValueError, OSError) as error:
        raise CommandError(f"no topics can be made at {bootstrap}: {error or type(error).__name__}") from error
    try:
        yield Broker(bootstrap, None, prefix)
    finally:
        if not keep:
            admin.delete_topics(names)
        admin.close()


def _wait_for(admin: Any, names: list[str]) -> None:
    """Wait until the broker tells of the topics: a consumer that comes earlier looks again only after five minutes."""
    deadline = time.monotonic() + _TOPICS_SECONDS
    while time.monotonic() < deadline:
        if all(len(topic["partitions"]) == PARTITIONS for topic in admin.describe_topics(names)):
            return
        time.sleep(_POLL_MS / 1000)
    raise CommandError(f"the topics {', '.join(names)} were made, but the broker does not tell of them")


class Witness:
    """Reads the three topics as they fill: what arrived, and which trace id each message carried."""

    def __init__(self, broker: Broker) -> None:
        from kafka import KafkaConsumer  # not for `--help`
        from kafka.structs import TopicPartition

        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self._stages = {broker.prefix + topic: topic for topic in TOPICS}
        self._consumer = KafkaConsumer(auto_offset_reset="earliest", enable_auto_commit=False, **broker.settings)
        self._consumer.assign([TopicPartition(name, number) for name in self._stages for number in range(PARTITIONS)])
        self.trace_ids: dict[str, dict[int, str]] = {topic: {} for topic in TOPICS}
        self.predictions: dict[int, tuple[int, int]] = {}
        """The digit that the model saw and the one that a person saw, by image."""
        self.places: dict[str, dict[int, tuple[int, int]]] = {topic: {} for topic in TOPICS}
        """Partition and offset, by topic and image."""
        self.decisions: Counter[int] = Counter()
        """How many decisions there were, by image."""
        self._times_ms: dict[str, dict[int, int]] = {topic: {} for topic in TOPICS}
        self._first = self._last = 0.0

    def read(self) -> int:
        """Read what has come; return how many images have a prediction."""
        found = self._consumer.poll(timeout_ms=_POLL_MS)
        if found:
            self._last = time.monotonic()
            self._first = self._first or self._last
        for messages in found.values():
            for message in messages:
                content, stage = json.loads(message.value), self._stages[message.topic]
                self.note(stage, content, message.headers)
                image = content["image"]
                self.places[stage][image] = (message.partition, message.offset)
                self._times_ms[stage].setdefault(image, message.timestamp)
                self.decisions[image] += stage == PREDICTIONS
        return len(self.predictions)

    def read_rest(self, messages: int) -> None:
        """Read until every message is there; what has not come after a while is missing."""
        deadline = time.monotonic() + _REST_SECONDS
        while self.missing(messages) and time.monotonic() < deadline:
            self.read()

    def note(self, topic: str, content: Mapping[str, Any], headers: Sequence[tuple[str, bytes]]) -> None:
        """Take in one message."""
        image = content["image"]
        traceparent = next((value for name, value in headers if name == "traceparent"), b"")
        self.trace_ids[topic][image] = traceparent.decode("ascii", "replace")[_TRACE_ID]
        if topic == PREDICTIONS:
            self.predictions[image] = (content["digit"], content["label"])

    def decided_after(self) -> dict[int, float]:
        """Return, by image, how long after its scan it was decided, s, as the messages' timestamps say."""
        scanned = self._times_ms[RAW]
        return {
            image: (time_ms - scanned[image]) / 1000
            for image, time_ms in self._times_ms[PREDICTIONS].items()
            if image in scanned
        }

    def too_busy(self, pause_s: float) -> list[str]:
        """Say where the machine had no time for the demo's rate; nothing where it had, or where there were too few.

        Args:
            pause_s: between two scans.
        """
        times_ms = self._times_ms[RAW].values()
        planned, took_s = 1 / pause_s, 0.0
        if len(times_ms) >= _FEWEST:
            took_s = (max(times_ms) - min(times_ms)) / 1000
        if took_s * planned <= _SLOWER * len(times_ms):
            return []
        rate = f"{(len(times_ms) - 1) / took_s:.0f} scans per second instead of up to {planned:.0f}"
        return [f"this machine was too busy for the demo's rate, {rate}: ages, and the lights on them, tell of that"]

    def scanned_between(self, first_ms: float, last_ms: float) -> list[int]:
        """Return the images whose scan was sent in that time."""
        return sorted(image for image, time_ms in self._times_ms[RAW].items() if first_ms <= time_ms <= last_ms)

    @property
    def seconds(self) -> float:
        """From the first message to the last."""
        return self._last - self._first

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def missing(self, messages: int) -> dict[str, int]:
        """Count the images that did not arrive, by topic; only topics where some are missing."""
        counts = {topic: messages - len(found) for topic, found in self.trace_ids.items()}
        return {topic: count for topic, count in counts.items() if count}

    def broken(self) -> list[int]:
        """Return the images whose messages do not carry one and the same trace id through all three topics."""
        images = sorted({image for found in self.trace_ids.values() for image in found})
        return [
            image
            for image in images
            if len(ids := {self.trace_ids[topic].get(image, "") for topic in TOPICS}) > 1 or "" in ids
        ]

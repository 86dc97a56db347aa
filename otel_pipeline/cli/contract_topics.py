"""Reads topics for `otel-pipeline contract`: with a consumer of its own, in no group, that leaves no trace."""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.config.credentials import without_credentials
from otel_pipeline.contracts.schema_ids import framed, registry_id
from otel_pipeline.contracts.text import NOTHING, TextReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_POLL_MS = 200
_BOOTSTRAP_MS = 5000
_STILL_SECONDS = 15.0
"""How long no message may come before the end of the topic is no longer waited for."""


class TopicValues:
    """The JSON values of topics.

    Args:
        bootstrap_servers: where the brokers are.
        settings: further settings of kafka-python's consumer, as `NAME=VALUE`.

    Raises:
        CommandError: no broker answers, or it is set up wrongly.
    """

    def __init__(self, bootstrap_servers: str, settings: Sequence[str] = ()) -> None:
        from kafka import KafkaConsumer  # not for `--help`
        from kafka.errors import KafkaError

        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        # kafka-python 3 tries for half a minute; 2 does not, and does not know the setting.
        patience = {name: _BOOTSTRAP_MS for name in ("bootstrap_timeout_ms",) if name in KafkaConsumer.DEFAULT_CONFIG}
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap_servers.split(","),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                **{**patience, **dict(map(_setting, settings))},
            )
        # An option that kafka-python does not have is an AssertionError there.
        except (KafkaError, ValueError, TypeError, AssertionError, OSError) as error:
            servers = without_credentials(bootstrap_servers)
            raise CommandError(
                f"no consumer can be made for {servers}: {error or type(error).__name__}",
                "--bootstrap-servers names a broker that can be reached, --client NAME=VALUE gives what it asks for",
            ) from error
        self.unreadable = 0
        """Values of the last topic read that are not JSON."""

    def oldest(self, topic: str, messages: int, seconds: float | None) -> Iterator[tuple[Any, int]]:
        """Yield values with their size in bytes, from the beginning.

        Without `seconds`, reading stops where the topic ends now; with it, what comes within that time is read too.
        """
        ends = self._assign(topic)
        self._consumer.seek_to_beginning()
        yield from self._read(ends, messages, seconds)

    def newest(self, topic: str, messages: int, seconds: float | None) -> Iterator[tuple[Any, int]]:
        """Yield values with their size in bytes: the last of each partition."""
        ends = self._assign(topic)
        begins = self._consumer.beginning_offsets(list(ends))
        each = -(-messages // len(ends))
        for partition, end in ends.items():
            self._consumer.seek(partition, max(begins[partition], end - each))
        yield from self._read(ends, messages, seconds)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _assign(self, topic: str) -> dict[Any, int]:
        from kafka.errors import KafkaError
        from kafka.structs import TopicPartition

        try:
            numbers = self._consumer.partitions_for_topic(topic)
            if not numbers:
                raise CommandError(
                    f"there is no topic {topic!r}",
                    "or the user has no right to see it; `kafka-topics --list` names those there are",
                )
            partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
            self._consumer.assign(partitions)
            return dict(self._consumer.end_offsets(partitions))
        except KafkaError as error:
            raise _cannot_be_read(error) from error

    def _read(self, ends: dict[Any, int], messages: int, seconds: float | None) -> Iterator[tuple[Any, int]]:
        # Not expected to be JSON: what is not is counted here, by name.
        reader = TextReader(expected=False)
        self.unreadable = taken = 0
        deadline = None if seconds is None else time.monotonic() + seconds
        newest = time.monotonic()
        while taken < messages:
            now = time.monotonic()
            if (deadline is not None and now >= deadline) or (deadline is None and now - newest > _STILL_SECONDS):
                return
            if deadline is None and self._at_end(ends):
                return
            for records in self._poll().values():
                newest = time.monotonic()
                for record in records:
                    if record.value is None or taken == messages:
                        continue
                    text = framed(record.value, record.headers)
                    value = reader.read(text[registry_id(text)[1] :])
                    if value is NOTHING:
                        self.unreadable += 1
                        continue
                    taken += 1
                    yield value, len(record.value)

    def _at_end(self, ends: dict[Any, int]) -> bool:
        return all(self._consumer.position(partition) >= end for partition, end in ends.items())

    def _poll(self) -> dict[Any, list[Any]]:
        from kafka.errors import KafkaError

        try:
            with _unrecorded():
                found: dict[Any, list[Any]] = self._consumer.poll(timeout_ms=_POLL_MS)
        except KafkaError as error:
            raise _cannot_be_read(error) from error
        return found


def _cannot_be_read(error: Exception) -> CommandError:
    return CommandError(
        f"the topic cannot be read: {error or type(error).__name__}",
        "the user needs the right to read it: --client NAME=VALUE gives kafka-python's consumer its settings",
    )


def _setting(said: str) -> tuple[str, Any]:
    name, sign, text = said.partition("=")
    if not sign or not name:
        raise CommandError(f"--client {said!r} is not NAME=VALUE", "for example --client security_protocol=SSL")
    try:
        value = json.loads(text)
    except ValueError:
        return name, text
    return name, tuple(value) if isinstance(value, list) else value


@contextmanager
def _unrecorded() -> Iterator[None]:
    """Keep our reading out of telemetry: `opentelemetry-instrument` patches the client, but this is no pipeline."""
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        detach(token)

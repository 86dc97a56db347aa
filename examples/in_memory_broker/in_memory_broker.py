"""A broker that is no Kafka: topics in memory, every subscriber sees all messages of one. The client library."""

from __future__ import annotations

import threading
import time
from collections import defaultdict

__version__ = "1.0"


class Message:
    """What was published; `number` counts up in its topic."""

    __slots__ = ("__weakref__", "body", "headers", "number", "sent_ms", "topic")

    def __init__(self, topic: str, body: bytes, headers: list[tuple[str, bytes]], number: int) -> None:
        self.topic, self.body, self.headers, self.number = topic, body, headers, number
        self.sent_ms = time.time_ns() // 1_000_000


class Broker:
    """Keeps all messages."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Message]] = defaultdict(list)
        self.changed = threading.Condition()


class Publisher:
    """Sends messages."""

    def __init__(self, broker: Broker) -> None:
        self._broker: Broker | None = broker

    def publish(self, topic: str, body: bytes, headers: list[tuple[str, bytes]] | None = None) -> int:
        """Keep a message; return its number."""
        if self._broker is None:
            raise RuntimeError("the publisher is closed")
        if not isinstance(body, bytes):
            raise TypeError("a body is bytes")
        for name, value in headers or ():
            if type(name) is not str or type(value) is not bytes:
                raise TypeError("a header is a name and bytes")
        with self._broker.changed:
            log = self._broker.topics[topic]
            log.append(Message(topic, body, list(headers or ()), len(log)))
            self._broker.changed.notify_all()
            return len(log) - 1

    def close(self) -> None:
        """Send no more."""
        self._broker = None


class Subscriber:
    """Receives the messages of one topic, from the first one on."""

    def __init__(self, broker: Broker, topic: str, name: str | None = None) -> None:
        self.topic, self.name = topic, name
        self._broker: Broker | None = broker
        self._position = self.acknowledged = 0

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message, or None when none comes in time (s)."""
        if self._broker is None:
            raise RuntimeError("the subscriber is closed")
        with self._broker.changed:
            log = self._broker.topics[self.topic]
            if not self._broker.changed.wait_for(lambda: len(log) > self._position, timeout):
                return None
            self._position += 1
            return log[self._position - 1]

    def ack(self, message: Message) -> None:
        """Say that a message is done."""
        self.acknowledged = message.number + 1

    def close(self) -> None:
        """Receive no more."""
        self._broker = None

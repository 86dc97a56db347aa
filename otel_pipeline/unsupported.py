"""Messaging clients and frameworks that are known and not instrumented: what to do with each instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unsupported:
    """One of them."""

    name: str
    """What configuration and `status()` call it: its name in the package index."""
    package: str
    """What the application imports."""
    distributions: tuple[str, ...] = ()
    """Other names that the package index has it under."""


UNSUPPORTED = (
    Unsupported("confluent-kafka", "confluent_kafka"),
    Unsupported("faust-streaming", "faust", ("faust",)),
    Unsupported("faststream", "faststream"),
    Unsupported("quixstreams", "quixstreams"),
    Unsupported("pulsar-client", "pulsar"),
    Unsupported("pika", "pika"),
    Unsupported("aio-pika", "aio_pika"),
    Unsupported("nats-py", "nats"),
)

"""What clients have been given to send and nobody has answered yet, read from the clients themselves.

Nothing is counted per message: a client knows its batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.engine.clients import Producer


class OpenBatch(NamedTuple):
    """Messages that a client sends together, and that are neither acknowledged nor failed."""

    batch: object
    """The client's own object, the same for as long as it is open; it takes weak references."""
    destination: str
    messages: int


class ProducerNow(NamedTuple):
    """A producer and what it has open."""

    producer: Producer
    open: list[OpenBatch]


def nothing_open(_client: object) -> Iterable[OpenBatch]:
    """Return nothing, for a library that does not tell."""
    return ()

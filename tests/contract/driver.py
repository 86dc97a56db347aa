"""What a client's driver gives to the tests: sends, receives and closes as an application would, and says what it cannot.

A new client adds a driver, not tests. An asynchronous client runs on a loop in a thread of its own, all of it in one
task, so that the same test serves both colours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Message = Any


def _row(words: str, **more: Any) -> Any:
    return field(metadata={"row": words}, **more)


@dataclass(frozen=True)
class Can:
    """What holds for this client in this way of use. Docs print it: docs/what-is-patched.md."""

    process_span: Literal["yes", "once somebody looks", "no"] = _row(
        "the handler runs inside of the message's process span"
    )
    loop_ends: bool = _row("leaving the loop ends the message in hand (else the next call, or closing)")
    handler_error: Literal["yes", "where it ends the task", "no"] = _row("the handler's exception is on that span")
    batches: bool = _row("what one call returns has a receive span with links")
    sequence: Literal["partition", "destination", "no", "not judged"] = _row(
        "numbers that tell order (of a `partition` they tell losses as well)"
    )
    commit: bool = _row("duration of commits or acknowledgements")
    commit_ahead: bool = _row("commits ahead of processing")
    seek: bool = _row("reading again after a seek is no redelivery")
    pace: bool = _row("whether the consumer keeps pace")
    unreadable: bool = _row("values that the deserializer does not take are counted")
    cluster: Literal["yes", "in newer versions", "no"] = _row("the cluster's id")
    groups: bool = _row("consumer groups")
    keys: bool = _row("keys and tombstones")
    addressed: bool = _row(
        "a message's destination is known before its headers are written: what the client refuses to take is a failed send",
        default=True,
    )


class Reader(Protocol):
    """A consumer that begins with the first message."""

    def receive_one(self) -> Message:
        """The next message, by what the client has for that."""

    def receive_many(self, count: int) -> list[Message]:
        """The next messages, in as few calls as the client needs."""

    def loop(self, handler: Callable[[Message], object], count: int, then: Callable[[], Any] | None = None) -> Any:
        """Call the handler with so many messages, as the client's users would; what `then` returns right after it."""

    def commit(self) -> None:
        """Commit, or acknowledge, all that was received."""

    def seek(self, offset: int) -> None:
        """Go to this offset of the only topic."""

    def close(self) -> None:
        """Close the consumer."""


class Driver(Protocol):
    """One client in one way of use, on a broker of its kind; everything of it is closed when the test ends."""

    name: str
    """As the docs call it."""
    library: str
    """As the registry calls it."""
    can: Can
    send_word: str
    receive_word: str
    system: str
    names: tuple[str, ...]
    """What of names that only some systems have stands on a process span."""
    public: tuple[tuple[type, str], ...]
    """The client's own methods that are patched."""

    def topic(self, name: str = "orders") -> str:
        """A topic of this test alone."""

    def send(self, topic: str, value: Any, **options: Any) -> Any:
        """Send and wait for the broker; key, headers. Within a handler it waits when the handler has returned."""

    def send_many(self, topic: str, values: Sequence[Any]) -> None:
        """Send without waiting in between, then wait for all."""

    def reader(self, topic: str, **options: Any) -> Reader:
        """A new consumer; group, client_id, deserializer."""

    def inside(self, function: Callable[[], Any]) -> Any:
        """Call a function where the application's code runs, between two calls of the client."""

    def read(self, message: Message, what: str) -> Any:
        """A field of a message: value, offset, headers."""

    def clients(self) -> list[Any]:
        """The client's own objects that were made so far, closed or not."""

    def close_clients(self) -> None:
        """Close and drop all clients."""

    def close(self) -> None:
        """Close everything."""

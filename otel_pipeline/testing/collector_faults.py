"""The ways in which `Collector` fails, and what each does to a request."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from otel_pipeline.dev.receiver import Answer
from otel_pipeline.export.spool.halves import count, only

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from otel_pipeline.dev.receiver import Request
    from otel_pipeline.export.destination import Signal

Kind = Literal["refuse", "hang", "reset", "close", "slow", "drip", "redirect", "huge", "partial", "too_large"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
_STATUSES = range(200, 600)
_OK = range(200, 300)
_BLOCK = b"x" * 65_536
_REJECTED = 0x08
_SAID = 0x12
_ENDS_S = 0.05


class CollectorError(ValueError):
    """A fault does not exist or cannot be so; the message says what can."""


class CollectorFaultOptions(TypedDict, total=False):
    """What a fault takes beside its name, each those kinds that are named."""

    retry_after: int | str
    """Of a status: the header `Retry-After`, seconds or a date."""
    body: bytes
    """Of a status: its answer's body."""
    seconds: float
    """`slow`: how long the answer takes; 1 unless given."""
    bytes_per_second: float
    """`drip`: how quickly the answer comes, a byte at a time; 10 unless given."""
    to: str
    """`redirect`: where to; a port where nobody listens unless given."""
    size: int
    """`huge`: bytes of the answer's body; 500,000,000 unless given."""
    rejected: int
    """`partial`: how many items of each request are rejected, its last ones; 1 unless given."""
    message: str
    """`partial`: what is said of it."""
    items: int
    """`too_large`: what has more items is answered by 413; 100 unless given."""


_TAKES: dict[str, dict[str, tuple[tuple[type, ...], Any]]] = {
    "status": {"retry_after": ((int, str), None), "body": ((bytes,), b"")},
    "slow": {"seconds": ((int, float), 1.0)},
    "drip": {"bytes_per_second": ((int, float), 10.0)},
    "redirect": {"to": ((str,), "http://127.0.0.1:9/")},
    "huge": {"size": ((int,), 500_000_000)},
    "partial": {"rejected": ((int,), 1), "message": ((str,), "rejected by a fault")},
    "too_large": {"items": ((int,), 100)},
}
"""By kind its options, their types and what they are unless given."""


class CollectorFault:
    """A fault that a `Collector` has. In a `with` it ends with it.

    Args:
        kind: one of `KINDS`, or a status of HTTP.
        signal: `traces`, `metrics` or `logs`; None for all.
        when: told of each request; the fault meets those that it returns true for. None for all.
        times: how many requests it meets; None for all.
        options: see `CollectorFaultOptions`.

    Raises:
        CollectorError: where that is no fault.
    """

    def __init__(
        self,
        kind: Kind | int,
        signal: Signal | None,
        when: Callable[[Request], bool] | None,
        times: int | None,
        options: CollectorFaultOptions,
    ) -> None:
        self.kind, self.status = _checked(kind)
        self._options = _options(self.kind, options)
        if signal is not None and signal not in SIGNALS:
            raise CollectorError(f"signal={signal!r}: it is one of {', '.join(SIGNALS)}")
        if times is not None and (type(times) is not int or times < 1):
            raise CollectorError(f"times={times!r}: it is a number from 1, or None")
        if self.kind == "refuse" and not (signal is None and when is None and times is None):
            raise CollectorError("refuse: who is not let in cannot be told apart by signal, when or times")
        self._signal, self._when, self.left = signal, when, times
        self.met = 0
        """How many requests it has met."""
        self.over = threading.Event()
        self._end: Callable[[CollectorFault], None] = lambda _fault: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def end(self) -> None:
        """Be well in this: what hangs is let go."""
        self.over.set()
        self._end(self)

    def ends_with(self, end: Callable[[CollectorFault], None]) -> CollectorFault:
        """Tell somebody when it ends."""
        self._end = end
        return self

    def meets(self, request: Request) -> bool:
        """Tell whether it meets a request, and count it. The caller has the lock."""
        if self.left == 0 or (self._signal is not None and request.path != f"/v1/{self._signal}"):
            return False
        if self._when is not None and not self._when(request):
            return False
        self.met += 1
        if self.left is not None:
            self.left -= 1
        return True

    def act(
        self, request: Request, connection: socket.socket | None, take: Callable[[Request], Answer]
    ) -> Answer | None:
        """Do to a request what it does; None where nothing more is to be answered.

        Args:
            request: that it meets.
            connection: that it came on; None over gRPC.
            take: takes a request that arrives.
        """
        found: Answer | None = getattr(self, f"_{self.kind}")(request, connection, take)
        return found

    def _status(self, request: Request, _connection: Any, take: Callable[[Request], Answer]) -> Answer:
        if self.status in _OK:
            take(request)
        after = self._options["retry_after"]
        headers = () if after is None else (("Retry-After", str(after)),)
        return Answer(self.status, self._options["body"], headers)

    def _redirect(self, *_ignored: Any) -> Answer:
        return Answer(302, b"", (("Location", self._options["to"]),))

    def _hang(self, *_ignored: Any) -> None:
        self.over.wait()

    def _close(self, *_ignored: Any) -> None:
        pass

    _refuse = _close

    def _reset(self, _request: Request, connection: Any, _take: Any) -> None:
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(connection.detach())  # Closed politely it would say goodbye first.

    def _slow(self, request: Request, _connection: Any, take: Callable[[Request], Answer]) -> Answer:
        answer = take(request)
        self.over.wait(self._options["seconds"])
        return answer

    def _drip(self, request: Request, connection: Any, take: Callable[[Request], Answer]) -> Answer | None:
        answer = take(request)
        if connection is None:
            return answer
        head = f"HTTP/1.1 {answer.status} OK\r\nContent-Length: {len(answer.body)}\r\n\r\n".encode()
        for byte in head + answer.body:
            connection.sendall(bytes([byte]))
            self.over.wait(1 / self._options["bytes_per_second"])
        return None

    def _huge(self, request: Request, connection: Any, take: Callable[[Request], Answer]) -> Answer | None:
        answer, left = take(request), self._options["size"]
        if connection is None:
            return answer
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
        with suppress(OSError):  # Nobody has to read it to its end.
            while left > 0 and not self.over.is_set():
                connection.sendall(_BLOCK[:left])
                left -= len(_BLOCK)
        time.sleep(_ENDS_S)
        return None

    def _partial(self, request: Request, _connection: Any, take: Callable[[Request], Answer]) -> Answer:
        signal: Any = request.path.rpartition("/")[2]
        items = count(signal, request.body)
        rejected = min(self._options["rejected"], items)
        take(request._replace(body=only(signal, request.body, range(items - rejected))))
        said = self._options["message"].encode()
        success = bytes((_REJECTED, *_varint(rejected), _SAID, *_varint(len(said)))) + said
        return Answer(200, bytes((0x0A, *_varint(len(success)))) + success)

    def _too_large(self, request: Request, _connection: Any, take: Callable[[Request], Answer]) -> Answer:
        signal: Any = request.path.rpartition("/")[2]
        return Answer(413) if count(signal, request.body) > self._options["items"] else take(request)


def _checked(kind: Any) -> tuple[str, int]:
    if type(kind) is int:
        if kind not in _STATUSES:
            raise CollectorError(f"{kind}: a status that a server ends a request with is 200 to 599")
        return "status", kind
    if kind not in KINDS:
        raise CollectorError(f"{kind!r}: it is one of {', '.join(KINDS)}, or a status as a number")
    return str(kind), 0


def _options(kind: str, given: CollectorFaultOptions) -> dict[str, Any]:
    takes = _TAKES.get(kind, {})
    for name, value in given.items():
        if name not in takes:
            raise CollectorError(f"{name}: {kind} takes {' and '.join(takes) or 'nothing beside its name'}")
        kinds = takes[name][0]
        if type(value) not in kinds:
            raise CollectorError(f"{name}={value!r}: it is {' or '.join(each.__name__ for each in kinds)}")
        if isinstance(value, (int, float)) and (value < 0 or (name == "bytes_per_second" and not value)):
            raise CollectorError(
                f"{name}={value!r}: it is {'more than' if name == 'bytes_per_second' else 'at least'} 0"
            )
    return {name: default for name, (_, default) in takes.items()} | dict(given)


def _varint(number: int) -> list[int]:
    """Return a number as protobuf writes it."""
    found = []
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return [*found, number]

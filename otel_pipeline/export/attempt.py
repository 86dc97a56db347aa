"""What is seen while one export of ours is tried: answers, errors, and what the SDK's exporters would log.

Their lines are read instead of written: raw class names and addresses, one a retry. Lines of the application's own
exporters, in other threads or outside of an attempt, stay as they are.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADERS = "opentelemetry.util.re"
"""Logs headers that it cannot read, with what they hold."""
_LOGGERS = ("opentelemetry.exporter.otlp.", _HEADERS, "urllib3.connection")
_MAX_LINES = 8


class NotEncodedError(Exception):
    """Leaves an encoder that would go on without a value that it cannot encode."""


class Attempt:
    """What is known of one call of an exporter, from whoever watches it; all of it in the calling thread."""

    __slots__ = (
        "body",
        "error",
        "left_out",
        "lines",
        "not_encoded",
        "repaired",
        "requests",
        "rpc",
        "says",
        "status",
        "stops_encoding",
    )

    def __init__(self, *, stops_encoding: bool = False) -> None:
        self.stops_encoding = stops_encoding
        """Whether an encoder may leave nothing out."""
        self.requests = 0
        """How often something was sent, or was to be."""
        self.status: int | None = None
        """Of the last answer over HTTP."""
        self.body = b""
        """Of the last answer, its first 64 kB."""
        self.error: BaseException | None = None
        """Why there was no last answer."""
        self.rpc: tuple[str, str] | None = None
        """Code and details of the last answer over gRPC, where it was an error."""
        self.not_encoded = False
        """Whether the exporter says that it could not encode something."""
        self.says: Any = None
        """Why nothing was sent (`causes.Cause`), where the exporter knows."""
        self.repaired = 0
        """How many items the exporter has changed so that they could be encoded."""
        self.left_out = 0
        """How many it has left out, since nothing can encode them."""
        self.lines: list[logging.LogRecord] = []
        """What the exporter would have logged, the first of it."""

    def answered(self, status: int, body: bytes) -> None:
        """Note an answer over HTTP."""
        self.requests += 1
        self.status, self.body, self.error = status, body, None

    def taken(self, body: bytes) -> None:
        """Note an answer over gRPC that is a success."""
        self.requests += 1
        self.rpc, self.body = None, body

    def refused(self, code: str, details: str) -> None:
        """Note an error over gRPC."""
        self.requests += 1
        self.rpc = code, details

    def note_failure(self, error: BaseException) -> None:
        """Note that there was no answer over HTTP."""
        self.requests += 1
        # A last try with no time left is no attempt: `requests` refuses a timeout of 0.
        if isinstance(error, OSError) or (self.status is None and self.error is None):
            self.status, self.body, self.error = None, b"", error

    def logged(self, record: logging.LogRecord) -> None:
        """Note what would have been logged."""
        text = record.msg if isinstance(record.msg, str) else ""
        self.not_encoded = self.not_encoded or text.startswith("Failed to encode")
        if self.stops_encoding and text.startswith("Failed to encode key"):
            # The encoder leaves the value out and goes on. Nothing has been sent yet, and the item can be repaired.
            raise NotEncodedError
        if len(self.lines) < _MAX_LINES:
            self.lines.append(record)


class _Thread(threading.local):
    attempt: Attempt | None = None


_thread = _Thread()


def current() -> Attempt | None:
    """Return the attempt that the calling thread is making, if it makes one."""
    return _thread.attempt


@contextmanager
def attempting(*, stops_encoding: bool = False) -> Iterator[Attempt]:
    """Watch what the calling thread does meanwhile."""
    before, made = _thread.attempt, Attempt(stops_encoding=stops_encoding)
    _thread.attempt = made
    try:
        yield made
    finally:
        _thread.attempt = before


class _ReadInstead(logging.Filter):
    """Keeps back what an exporter logs while it makes an attempt of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is the application's to see."""
        attempt = _thread.attempt
        if attempt is None:
            return True
        attempt.logged(record)
        return False


_read_instead = _ReadInstead()


def watch_loggers() -> None:
    """Read what the SDK's exporters log from now on; to be called once they are imported, and again at no harm."""
    logging.getLogger(_HEADERS)
    known: dict[str, Any] = dict(logging.root.manager.loggerDict)
    for name, logger in known.items():
        if isinstance(logger, logging.Logger) and name.startswith(_LOGGERS) and _read_instead not in logger.filters:
            # Before the SDK's own filter, which would let the second failure within 20 s pass unseen.
            logger.filters.insert(0, _read_instead)


def say_again(trying: Attempt) -> None:
    """Log what was kept back after all, but what may hold a secret: a setting that an exporter cannot read."""
    for record in trying.lines:
        if record.name != _HEADERS:
            logging.getLogger(record.name).handle(record)

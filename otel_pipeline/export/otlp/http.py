"""Sends requests of OTLP over HTTP: again where a server asks for it or a network fails, until a deadline."""

from __future__ import annotations

import os
import ssl
import threading
import time
import zlib
from contextlib import suppress
from datetime import timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.ids import uniform
from otel_pipeline.export.causes import CertificateFileError
from otel_pipeline.export.otlp import tls
from otel_pipeline.export.otlp.answer import rejected
from otel_pipeline.export.otlp.connection import Answer, Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.export.collector_clock import Answers
    from otel_pipeline.export.otlp.variables import HttpSettings

RETRIED = frozenset({429, 502, 503, 504})
"""Statuses after which OTLP asks for another try."""
FIRST_WAIT_S = 1.0
MAX_WAIT_S = 32.0
JITTER = 0.2
"""Of a wait, so that what failed together is not tried again together."""
_MAX_KEPT = 2
_OK = range(200, 300)
_GZIP = 31
_LEVEL = 1
"""A third of the time of level 9, for 3 % more bytes."""


class Outcome(NamedTuple):
    """How it went. Either `status` or `error` is there."""

    status: int | None = None
    body: bytes = b""
    """Of the answer, its first 64 kB."""
    error: BaseException | None = None
    """Why there was no answer."""
    retry_after_s: float | None = None
    """How long the server asks to wait."""

    @property
    def is_taken(self) -> bool:
        """Whether the request has arrived; but for what `rejected` counts of it."""
        return self.status in _OK

    @property
    def may_pass_later(self) -> bool:
        """Whether another try of the same request makes sense."""
        if self.status is not None:
            return self.status in RETRIED
        if isinstance(self.error, OSError):
            return not isinstance(self.error, (ssl.SSLCertVerificationError, CertificateFileError))
        return False  # It is no server of HTTP.

    @property
    def rejected(self) -> tuple[int, str]:
        """How many items a server says that it has not taken, and why."""
        return rejected(self.body) if self.is_taken else (0, "")


class Transport:
    """Takes requests to one address, on connections that are kept. Safe in any thread; never raises.

    A forked child opens connections of its own.

    Args:
        settings: the address, and how it is spoken to.
        answers: told of the clock of who answers.
        tried: told of each try that is not the last one, and of each that is.
    """

    def __init__(
        self,
        settings: HttpSettings,
        answers: Answers | None = None,
        tried: Callable[[Outcome], object] = lambda _outcome: None,
    ) -> None:
        self.settings = settings
        self._answers = answers
        self._tried = tried
        self._kept: list[Connection] = []
        if settings.parts.scheme == "https":
            # All that is imported for it is, before any child is forked; what a file lacks, the first try says.
            with suppress(CertificateFileError):
                tls.context(settings)
        self._renew()
        forks.add(self._renew, Step.NAME)

    def _renew(self) -> None:
        self._ended = threading.Event()
        for connection in self._kept:
            connection.close()
        self._kept = []

    def post(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        """Send a request, again where that makes sense, within the time; return how the last try went.

        Args:
            body: not compressed.
            timeout_s: for all tries and the waits between them; None for that of the settings.
        """
        timeout_s = self.settings.timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + timeout_s
        packed, wait_s = compressed(body, self.settings.compression), FIRST_WAIT_S
        while True:
            outcome = self._try(packed, deadline_s)
            self._tried(outcome)
            if outcome.is_taken or not outcome.may_pass_later:
                return outcome
            pause_s = outcome.retry_after_s
            if pause_s is None:
                pause_s = wait_s * uniform(1 - JITTER, 1 + JITTER)
            if time.monotonic() + pause_s >= deadline_s or self._ended.wait(pause_s):
                return outcome
            wait_s = min(2 * wait_s, MAX_WAIT_S)

    def once(self, body: bytes, timeout_s: float) -> Outcome:
        """Send a request, not again; return how that went. For who waits between tries himself."""
        outcome = self._try(compressed(body, self.settings.compression), time.monotonic() + timeout_s)
        self._tried(outcome)
        return outcome

    def close(self) -> None:
        """End the connections that wait for requests, and each wait between two tries; a later request still passes."""
        self._ended.set()
        while self._kept:
            self._kept.pop().close()

    def _try(self, packed: bytes, deadline_s: float) -> Outcome:
        try:
            answer = self._ask(packed, deadline_s)
        except Exception as error:
            return Outcome(error=error)
        return Outcome(answer.status, answer.body, None, _seconds(answer.retry_after))

    def _ask(self, packed: bytes, deadline_s: float) -> Answer:
        kept = self._take()
        if kept is not None:
            try:
                return self._ask_on(kept, packed, deadline_s)
            except (OSError, HTTPException):
                # The server may have ended it while it waited, which only shows now.
                if time.monotonic() >= deadline_s:
                    raise
        return self._ask_on(Connection(self.settings, deadline_s), packed, deadline_s)

    def _ask_on(self, connection: Connection, packed: bytes, deadline_s: float) -> Answer:
        sent_s = time.time()
        try:
            answer, goes_on = connection.ask(packed, deadline_s)
        except BaseException:
            connection.close()
            raise
        if self._answers is not None:
            self._answers.note(sent_s, time.time(), answer.date, self.settings.parts.hostname)
        if goes_on and len(self._kept) < _MAX_KEPT and not self._ended.is_set():
            self._kept.append(connection)
        else:
            connection.close()
        return answer

    def _take(self) -> Connection | None:
        """Return a connection of this process that was kept."""
        while True:
            try:
                found = self._kept.pop()
            except IndexError:
                return None
            if found.pid == os.getpid():
                return found
            found.close()  # Of a parent whose host runs no hooks.


def compressed(body: bytes, compression: str) -> bytes:
    """Return a body as it is sent: `gzip`, `deflate`, or as it is."""
    if compression == "none":
        return body
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if compression == "gzip" else zlib.MAX_WBITS)
    return packing.compress(body) + packing.flush()


def _seconds(retry_after: str | None) -> float | None:
    """Return how long `Retry-After` asks to wait, in s or until a date; None for what says neither."""
    if not retry_after:
        return None
    try:
        return max(float(int(retry_after)), 0.0)
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(retry_after)
        date = date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)
        return max(date.timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None

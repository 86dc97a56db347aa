"""One thread per process sends what the spool holds, in order, and tries again until it is taken."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

from otel_pipeline.engine.forks import forks
from otel_pipeline.export import attempt, causes
from otel_pipeline.export.border import MAX_TRIES
from otel_pipeline.export.spool.adoption import adopt
from otel_pipeline.export.spool.answers import Meaning, meaning
from otel_pipeline.export.spool.halves import halves
from otel_pipeline.export.spool.lanes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.export.causes import Cause
    from otel_pipeline.export.otlp.http import Outcome
    from otel_pipeline.export.otlp.variables import HttpSettings
    from otel_pipeline.export.spool.lanes import Lane, Taken
    from otel_pipeline.export.spool.spool import Spool

JOIN_BYTES = 1024 * 1024
"""Batches that wait are sent together up to this size."""
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
MAX_RETRY_AFTER_S = 3600.0
MAX_FAILURES = 8
"""How often one batch is tried that a server fails at: others behind it may pass."""
AT_ONCE_ITEMS = 2_000
"""What waits is gathered for a moment, but no more than this: it is on the disk, and a Collector has few requests."""
OTHERS_APART_S = 0.05
"""Between two requests with what dead processes have left: a Collector that comes back gets the new first."""
LOOK_S = 30.0
"""How often is looked for what dead processes have left."""
_AFTER_FAILURE_S = 0.2


def _nobody(_place: str) -> None:
    """Tell nobody."""


class Transport(Protocol):
    """Sends requests to one address."""

    settings: HttpSettings

    def once(self, body: bytes, timeout_s: float) -> Outcome:
        """Send one request, once, within the time; what is known of it is told to the attempt."""

    def close(self) -> None:
        """End the connections."""


class Listener(Outcomes, Protocol):
    """Is told what becomes of what is sent. Must be short, and raise nothing."""

    def sent(self, count: int, outcome: Outcome, *, of_others: bool) -> None:
        """Take note that so many were taken; the answer may say that some of them were rejected."""

    def refused(self, count: int, cause: Cause, *, of_others: bool) -> None:
        """Take note that so many will never be taken."""

    def waits(self, cause: Cause) -> None:
        """Take note that an attempt has failed, and there will be another one."""


class Outlet:
    """Where one lane leads, and how it goes there. For the thread that sends.

    Args:
        lane: what is sent.
        transport: how.
        listener: told of it.
        endpoint: to find the cause of failures.
        gather_s: how long what waits is gathered before it is sent.
    """

    def __init__(
        self, lane: Lane, transport: Transport, listener: Listener, endpoint: str, gather_s: float = 0.0
    ) -> None:
        self.lane = lane
        self.transport = transport
        self.listener = listener
        self.endpoint = endpoint
        self.gather_s = gather_s
        self.ends = False
        """Whether the process ends: there is no time to spread what others have left."""
        self.trying: attempt.Attempt | None = None
        """What is known of the request under way."""
        self.began_s: float | None = None
        self.begin()

    def begin(self) -> None:
        """Begin anew."""
        self.due_s = float("-inf")
        self.hurries_to = 0
        """Up to which of the items that were appended nothing is gathered: somebody waits."""
        self.asked_to_wait = False
        """Whether the server has said until when."""
        self.failures = 0
        self.attempts = 0
        """How many have ended."""
        self.pieces: list[tuple[bytes, int]] = []
        self._of: Taken | None = None
        self._one_by_one = 0
        self._tries = 0
        self._join_bytes = JOIN_BYTES
        self._gathers_since_s: float | None = None
        self._others_due_s = float("-inf")
        self._is_own_waiting = False

    def next_s(self, spool: Spool) -> float | None:
        """Return when the next attempt is due; None where nothing waits."""
        due_s = self._due_s(spool)
        return min(due_s) if due_s else None

    def _due_s(self, spool: Spool) -> list[float]:
        """Return when this process's own is due, and then what others have left; what does not wait is left out."""
        own, of_others = spool.waits(self.lane)
        due_s = [max(self.due_s, self._others_due_s)] if of_others else []
        self._is_own_waiting = own
        if not own:
            self._gathers_since_s = None
            return due_s
        if self._gathers_since_s is None:
            self._gathers_since_s = time.monotonic()
        lane = self.lane
        at_once = self.failures or lane.settled < self.hurries_to or lane.appended - lane.settled >= AT_ONCE_ITEMS
        return [self.due_s if at_once else max(self.due_s, self._gathers_since_s + self.gather_s), *due_s]

    def send(self, spool: Spool) -> bool:
        """Make one attempt, if something waits that is due; return whether there was one."""
        due_s, now_s = self._due_s(spool), time.monotonic()
        if not due_s or min(due_s) > now_s:
            return False
        own_first = self._is_own_waiting and due_s[0] <= now_s
        take = spool.take if own_first else spool.take_of_others
        try:
            taken = take(self.lane, 0 if self._one_by_one else self._join_bytes)
        except OSError:
            self.put_off()  # No descriptor is left, for example: the file is as it was.
            return True
        if taken is None:
            return False
        if taken.estate is None:
            self._gathers_since_s = None
        if self._of is not taken:
            self._of, self._tries = taken, 0
            self.pieces = [(taken.part.payload, taken.part.items)] if taken.part.frames else []
            self._one_by_one = max(0, self._one_by_one - 1)
        if self.pieces:
            self._attempt(spool, taken)
        if not self.pieces:
            self._of = None
            spool.done(self.lane, taken)
        self.attempts += 1
        return True

    def put_off(self) -> None:
        """Try again later: something of ours has failed."""
        self.due_s = time.monotonic() + self._backoff_s()
        self.failures += 1
        self.attempts += 1

    def _backoff_s(self) -> float:
        # Not all at once, when a Collector comes back to many.
        return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(self.failures, 10)) * random.uniform(0.8, 1.2)  # noqa: S311

    def _attempt(self, spool: Spool, taken: Taken) -> None:
        payload, count = self.pieces[0]
        self.began_s = time.monotonic()
        with attempt.attempting() as self.trying:
            outcome = self.transport.once(payload, self.transport.settings.timeout_s)
        trying, self.trying, self.began_s = self.trying, None, None
        means = Meaning.WAIT if outcome.status is None else meaning(outcome.status)
        if means is Meaning.ARRIVED:
            self._settled(taken, count)
            if taken.estate is not None:
                self._others_due_s = time.monotonic() + (0.0 if self.ends else OTHERS_APART_S)
            self.listener.sent(count, outcome, of_others=taken.estate is not None)
            return
        cause = causes.cause_of(trying, self.lane.signal, self.endpoint, probes=self.failures == 0)
        self._tries += 1
        if means is Meaning.TOO_LARGE and self._in_parts(spool, taken):
            return
        if means is Meaning.WAIT or (means is Meaning.FAILED and self._tries < MAX_FAILURES):
            self._wait(taken, cause, outcome.retry_after_s)
            return
        if taken.part.frames > 1 and len(self.pieces) == 1 and spool.put_back(self.lane, taken):
            self._alone(taken)  # One of them it is; the others are not to suffer.
            return
        self._settled(taken, count)
        self.listener.refused(count, cause, of_others=taken.estate is not None)

    def _settled(self, taken: Taken, count: int) -> None:
        self.failures, self.due_s, self.asked_to_wait = 0, float("-inf"), False
        taken.left -= count
        del self.pieces[0]

    def _alone(self, taken: Taken) -> None:
        """Send the batches one by one that were sent together."""
        self._one_by_one = taken.part.frames
        self._of, self.pieces = None, []

    def _in_parts(self, spool: Spool, taken: Taken) -> bool:
        """Send less at once; false where there is nothing less."""
        self._join_bytes = min(self._join_bytes, len(self.pieces[0][0]) // 2)
        if taken.part.frames > 1 and len(self.pieces) == 1 and spool.put_back(self.lane, taken):
            self._of, self.pieces = None, []
            return True
        if self._tries >= MAX_TRIES:
            return False
        with suppress(Exception):
            found = halves(self.lane.signal, self.pieces[0][0])
            if len(found) > 1 and sum(count for _, count in found) == self.pieces[0][1]:
                self.pieces[0:1] = found
                return True
        return False

    def _wait(self, taken: Taken, cause: Cause, asked_s: float | None) -> None:
        self.asked_to_wait = bool(asked_s)
        # A server may ask for no wait at all, for as long as it is overloaded: it is not called without a pause.
        wait_s = min(asked_s, MAX_RETRY_AFTER_S) if asked_s else self._backoff_s()
        self.failures += 1
        self.due_s = time.monotonic() + wait_s
        if taken.removed:
            self.pieces = []
            count, taken.left = taken.left, 0
            self.listener.dropped(count, taken.removed)
        self.listener.waits(cause)


class Sender:
    """Sends what the spool holds. Safe in any thread; a forked child has a thread of its own.

    Args:
        spool: what is to be sent.
        failed: told of the place, while an exception of ours is handled.
    """

    def __init__(self, spool: Spool, failed: Callable[[str], None] = _nobody) -> None:
        self.spool = spool
        self.outlets: list[Outlet] = []
        self.restarts = 0
        """How often the thread had died."""
        self._failed = failed
        self._stopped = False
        self._begin()
        forks.add(self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._is_woken = False
        self._thread: threading.Thread | None = None
        self._look_s = float("-inf")
        for outlet in self.outlets:
            outlet.begin()

    def wake(self) -> None:
        """Send what was appended. To be called after that, and each second."""
        self._ensure()
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def _ensure(self) -> None:
        """Start the thread, where none lives that should."""
        if self._stopped or forks.holds or (self._thread is not None and self._thread.is_alive()):
            return
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            self.restarts += self._thread is not None
            made = threading.Thread(target=self._run, name="otel_pipeline.sender", daemon=True)
            with suppress(RuntimeError):  # The interpreter ends: what is on the disk is for the next start.
                made.start()
                self._thread = made

    def _run(self) -> None:
        changed = self._changed
        while not self._stopped:
            try:
                wait_s = self._round()
                with changed:
                    if not self._is_woken:
                        changed.wait(wait_s)
                    self._is_woken = False
            except BaseException:
                if changed is not self._changed:
                    return
                with suppress(Exception):
                    self._failed("sender")
                time.sleep(_AFTER_FAILURE_S)

    def _round(self) -> float:
        """Make an attempt for each outlet where something is due; return how long nothing will be, s.

        None of it is anybody's telemetry: neither our requests, whoever has instrumented the library that sends them,
        nor what is said of them.
        """
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            return self._send_what_is_due()
        finally:
            detach(token)

    def _send_what_is_due(self) -> float:
        now_s = time.monotonic()
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self.spool.drop_old()
            adopt(self.spool)
        for outlet in self.outlets:
            try:
                sent = outlet.send(self.spool)
            except Exception:
                outlet.put_off()  # The others are not to suffer.
                self._failed("sender")
                sent = True
            if sent:
                with self._changed:
                    self._changed.notify_all()
        due_s = [next_s for outlet in self.outlets if (next_s := outlet.next_s(self.spool)) is not None]
        return max(0.0, min([*due_s, self._look_s]) - time.monotonic())

    def drain(self, at_most_s: float, *, patient: bool = False, only: Outlet | None = None) -> bool:
        """Wait until all that was appended before has been settled.

        Args:
            at_most_s: how long.
            patient: whether to go on where an attempt fails, and until what others have left is sent as well.
            only: wait for this outlet; None for all.
        """
        until_s = time.monotonic() + at_most_s
        outlets = self.outlets if only is None else [only]
        wanted = [(outlet, outlet.lane.appended, outlet.attempts) for outlet in outlets]
        for outlet in outlets:
            outlet.hurries_to = max(outlet.hurries_to, outlet.lane.appended)
            outlet.ends = outlet.ends or patient
            if not outlet.asked_to_wait:
                outlet.due_s = float("-inf")

        def settled() -> bool:
            if any(outlet.lane.settled < appended for outlet, appended, _ in wanted):
                return False
            return not patient or not any(self.spool.waits(outlet.lane)[1] for outlet in outlets)

        def failing() -> bool:
            """Tell whether each that is left has been tried since, or is not to be tried now."""
            return not patient and all(
                outlet.failures > 0 and (outlet.attempts > attempts or outlet.asked_to_wait)
                for outlet, appended, attempts in wanted
                if outlet.lane.settled < appended
            )

        self.wake()
        while not settled() and not failing() and (left_s := until_s - time.monotonic()) > 0:
            if self._thread is None or not self._thread.is_alive():
                wait_s = self._round()
                if wait_s > 0 and not settled():
                    time.sleep(min(wait_s, left_s, _AFTER_FAILURE_S))
                continue
            with self._changed:
                self._changed.wait_for(lambda: settled() or failing(), min(left_s, 0.5))
        return settled()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        # SDKs before 1.33 keep each batch processor for ever, and with it its border and this.
        self._failed = _nobody
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()
        for outlet in self.outlets:
            outlet.transport.close()

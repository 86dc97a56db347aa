"""Where one lane leads: what is sent next, what each answer means for it, and when it is tried again."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from otel_pipeline.engine.ids import uniform
from otel_pipeline.export import attempt, causes
from otel_pipeline.export.border import MAX_TRIES
from otel_pipeline.export.spool import asides
from otel_pipeline.export.spool.answers import Meaning, meaning
from otel_pipeline.export.spool.halves import halves
from otel_pipeline.export.spool.lanes import Outcomes

if TYPE_CHECKING:
    from otel_pipeline.export.causes import Cause
    from otel_pipeline.export.otlp.http import Outcome
    from otel_pipeline.export.otlp.variables import HttpSettings
    from otel_pipeline.export.spool.lanes import Aside, Lane, Taken
    from otel_pipeline.export.spool.segments import Part
    from otel_pipeline.export.spool.spool import Spool

JOIN_BYTES = 1024 * 1024
"""Batches that wait are sent together up to this size."""
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
MAX_RETRY_AFTER_S = 3600.0
MAX_FAILURES = 8
"""How often one batch is tried that a server fails at: others behind it may pass."""
PATIENCE = 3
"""How often a request is tried that gets no answer, or is asked to wait, until it is looked whether others pass."""
MAX_DEPTH = 32
"""How far behind: so many in a row that are not taken are passed."""
AT_ONCE_ITEMS = 2_000
"""What waits is gathered for a moment, but no more than this: it is on the disk, and a Collector has few requests."""
OTHERS_APART_S = 0.05
"""Between two requests with what dead processes have left: a Collector that comes back gets the new first."""


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

    def set_aside(self, count: int, cause: Cause) -> None:
        """Take note that so many are not taken while others are, and why."""


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
        self._passed: Taken | None = None
        """What was sent before its turn, and was taken."""
        self._probes = False
        """Whether the next attempt is with what is behind."""
        self._depth = 1
        """How far behind."""
        self._join_bytes = JOIN_BYTES
        self._gathers_since_s: float | None = None
        self._others_due_s = float("-inf")
        self._is_own_waiting = False

    def next_s(self, spool: Spool) -> float | None:
        """Return when the next attempt is due; None where nothing waits."""
        due_s = self._due_s(spool)
        aside_s = None if self.failures else asides.next_due_s(self.lane)
        if aside_s is not None:
            due_s.append(aside_s)
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
        if self._tries_aside(spool):
            return True
        due_s, now_s = self._due_s(spool), time.monotonic()
        if not due_s or min(due_s) > now_s:
            return False
        take = spool.take if self._is_own_waiting and due_s[0] <= now_s else spool.take_of_others
        try:
            taken = take(self.lane, 0 if self._one_by_one or self._passed is not None else self._join_bytes)
        except OSError:
            self.put_off()  # No descriptor is left, for example: the file is as it was.
            return True
        return taken is not None and self._send(spool, taken)

    def _send(self, spool: Spool, taken: Taken) -> bool:
        """Make one attempt with what is in hand; return true."""
        if taken.estate is None:
            self._gathers_since_s = None
        if self._is_passed(spool, taken):
            return True
        if self._of is not taken:
            self._of, self._tries, self._probes, self._depth = taken, 0, False, 1
            self.pieces = [(taken.part.payload, taken.part.items)] if taken.part.frames else []
            self._one_by_one = max(0, self._one_by_one - 1)
        probe = asides.probe(spool, self.lane, taken, self._depth) if self._probes and self.pieces else None
        if probe is not None:
            self._attempt_behind(spool, taken, probe)
        elif self.pieces:
            self._attempt(spool, taken)
        if not self.pieces and self._of is taken:
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
        return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(self.failures, 10)) * uniform(0.8, 1.2)

    def _asked(self, payload: bytes) -> tuple[Outcome, Meaning, attempt.Attempt]:
        """Send it once."""
        self.began_s = time.monotonic()
        with attempt.attempting() as self.trying:
            outcome = self.transport.once(payload, self.transport.settings.timeout_s)
        trying, self.trying, self.began_s = self.trying, None, None
        return outcome, Meaning.WAIT if outcome.status is None else meaning(outcome.status), trying

    def _attempt_behind(self, spool: Spool, taken: Taken, probe: Taken) -> None:
        """Send what is behind; where that is taken, what is in hand is tried once more, and then set aside."""
        outcome, means, trying = self._asked(probe.part.payload)
        self._probes = False
        if means is Meaning.ARRIVED:
            self._passed, self.due_s, self.asked_to_wait = probe, float("-inf"), False
            self.listener.sent(probe.part.items, outcome, of_others=probe.estate is not None)
            return
        asides.forget(spool, self.lane, arrived=False)
        self._depth = self._depth % MAX_DEPTH + 1
        cause = causes.cause_of(trying, self.lane.signal, self.endpoint, probes=False)
        self._wait(taken, cause, outcome.retry_after_s)

    def _is_passed(self, spool: Spool, taken: Taken) -> bool:
        """Settle what is in hand where it is what was sent before its turn; false where it is not."""
        passed = self._passed
        if passed is not None and passed.removed:
            passed = self._passed = None
            asides.forget(spool, self.lane, arrived=True)
        if passed is None or passed.segment is not taken.segment or passed.part.end != taken.part.end:
            return False
        self._passed, self.failures, self.due_s = None, 0, float("-inf")
        asides.forget(spool, self.lane, arrived=True)
        spool.done(self.lane, taken)
        self.attempts += 1
        return True

    def _set_aside(self, spool: Spool, cause: Cause) -> bool:
        """Set aside what is in hand: what is behind it was taken since. False where there is no room."""
        count = asides.set_aside(spool, self.lane, b"".join(payload for payload, _ in self.pieces))
        if not count:
            return False
        self._of, self.pieces = None, []
        self.due_s, self.asked_to_wait = float("-inf"), False
        self.listener.set_aside(count, cause)
        return True

    def _tries_aside(self, spool: Spool) -> bool:
        """Try again what was set aside, where some of it is due while all goes well; tell whether there was some."""
        found = None if self.failures else asides.due(spool, self.lane, time.monotonic())
        if found is not None:
            self._attempt_aside(spool, *found)
            self.attempts += 1
        return found is not None

    def _attempt_aside(self, spool: Spool, aside: Aside, part: Part) -> None:
        """Try again what was set aside."""
        outcome, means, trying = self._asked(part.payload)
        aside.put_off(time.monotonic())
        arrived = means is Meaning.ARRIVED
        over = arrived or means in (Meaning.REFUSED, Meaning.TOO_LARGE)
        over = over or (means is Meaning.FAILED and aside.tries >= MAX_FAILURES)
        lost = asides.tried(spool, self.lane, aside, is_over=over)
        if arrived:
            self.listener.sent(aside.items, outcome, of_others=aside.of_others)
        elif over:
            cause = causes.cause_of(trying, self.lane.signal, self.endpoint, probes=False)
            self.listener.refused(aside.items, cause, of_others=aside.of_others)
        elif lost:
            dropped = self.listener.dropped_of_others if aside.of_others else self.listener.dropped
            dropped(aside.items, aside.removed)

    def _attempt(self, spool: Spool, taken: Taken) -> None:
        payload, count = self.pieces[0]
        outcome, means, trying = self._asked(payload)
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
        if means is Meaning.WAIT:
            if self._passed is None or not self._set_aside(spool, cause):
                self._wait(taken, cause, outcome.retry_after_s)
                self._doubt(spool, taken)
            return
        if means is Meaning.FAILED and self._tries < MAX_FAILURES:
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

    def _doubt(self, spool: Spool, taken: Taken) -> None:
        """Look at what is behind, once it was tried often enough: is it this one alone?"""
        if self._tries < (1 if self._one_by_one else PATIENCE) or not self.pieces or self._passed is not None:
            return
        if taken.part.frames > 1 and len(self.pieces) == 1 and spool.put_back(self.lane, taken):
            self._alone(taken)
            return
        self._probes = True

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

"""One thread per process sends what the spool holds, in order, and tries again until it is taken."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

from otel_pipeline.engine.forks import forks
from otel_pipeline.export.spool.adoption import adopt

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.export.spool.outlet import Outlet
    from otel_pipeline.export.spool.spool import Spool

LOOK_S = 30.0
"""How often is looked for what dead processes have left."""
_AFTER_FAILURE_S = 0.2


def _nobody(_place: str) -> None:
    """Tell nobody."""


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
        """Wait until all that was appended before has been settled; false where some of it was not, or is set aside.

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
        return settled() and not any(outlet.lane.aside for outlet in outlets)

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

"""The border: each exporter of ours stands behind one, and what passes is counted there.

What an exporter raises goes no further. What cannot be encoded is repaired, or else found by halving the batch and left
out alone. What does not arrive is lost with a cause that can be said in words.
"""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_pipeline.export import attempt, batches, causes
from otel_pipeline.export.causes import Cause
from otel_pipeline.export.otlp.answer import rejected
from otel_pipeline.export.otlp_lines import LOG_EXPORT_RESULT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.export.accounting import Account
    from otel_pipeline.export.destination import Signal
    from otel_pipeline.export.losses import Losses

MAX_TRIES = 64
"""Requests that are too large, of one batch: then what is left of it is given up."""
HANGS_S = 5.0
"""An export that takes longer goes badly; and a queue that was full less long ago is still said to be."""
_RESULTS: dict[str, Any] = {"traces": SpanExportResult, "metrics": MetricExportResult, "logs": LOG_EXPORT_RESULT}
SIZES = frozenset({causes.TOO_LARGE.reason, "413"})
"""Reasons of failures after which less at once may pass."""
_REDIRECTS = 300


class Instead(NamedTuple):
    """Where a batch goes that the Collector does not take, in `local` and `test`."""

    exporter: Any
    words: str
    """What happens to it, for people: "it is written to ..."."""
    reachable: Callable[[], bool]
    """Asked before each batch, so that nothing waits for a Collector that is not there."""


class Border:
    """Takes an exporter's place. Safe in any thread, as far as the exporter is; never raises.

    Args:
        exporter: the SDK's, or another one; of spans, metrics or log records.
        account: counts what passes.
        losses: told of what does not arrive.
        problem: told once of what cannot be encoded.
        endpoint: where the exporter connects to; "" where that is not known.
        watched: whether each request is seen, so that a failure without one has its cause here.
        instead: what takes batches that the exporter does not get rid of.
        says: what every failure of this exporter means, where it says so itself.
    """

    def __init__(
        self,
        exporter: Any,
        account: Account,
        losses: Losses,
        problem: Callable[[str, str], None],
        *,
        endpoint: str = "",
        watched: bool = False,
        instead: Instead | None = None,
        says: Cause | None = None,
    ) -> None:
        self._exporter = exporter
        self._signal: Signal = account.signal
        self._problem = problem
        self._losses = losses
        self._endpoint = endpoint
        self._watched = watched
        self._instead = instead
        self._says = says
        self._results = _RESULTS[account.signal]
        self._stopped = self._closed = False
        self._trying: attempt.Attempt | None = None
        self._full = 0
        self._full_s = float("-inf")
        self.account = account
        account.doubt = self._doubt
        # What a metric reader reads of its exporter.
        for name in ("_preferred_temporality", "_preferred_aggregation"):
            if hasattr(exporter, name):
                setattr(self, name, getattr(exporter, name))

    @property
    def exporter(self) -> Any:
        """The exporter itself."""
        return self._exporter

    def export(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Export spans, metrics or log records, and return the SDK's own word for how that went."""
        if self._closed:
            return self._results.SUCCESS
        try:
            count = batches.count(self._signal, batch)
            return self._results.SUCCESS if self._pass(batch, count, args, kwargs) else self._results.FAILURE
        except Exception as error:
            self._problem(f"border.{self._signal}", f"{self._signal} are lost at the border: {type(error).__name__}")
            return self._results.FAILURE

    def _pass(self, batch: Any, count: int, args: Any, kwargs: Any) -> bool:
        account = self.account
        if account.queue_size is None:
            account.taken.cell.value += count
        account.begin(count)
        try:
            if self._instead is not None and not self._instead.reachable():
                return self.turn_away(batch, count, causes.REFUSED)
            return Sending(self, args, kwargs).all_of(batch, count)
        finally:
            account.ended()

    def turn_away(self, batch: Any, count: int, cause: Cause) -> bool:
        """Take note that a batch has not arrived; return whether it was written instead."""
        account, instead = self.account, self._instead
        account.count_failure(cause)
        if instead is None:
            account.dropped(count, cause.reason)
            if self._says is None:
                self._losses.lost(account.destination, self._signal, cause, count)
            return False
        self._losses.lost(account.destination, self._signal, cause, 0, instead.words)
        if instead.exporter.export(batch).name == "SUCCESS":
            account.exported(count, as_lines=True)
            return True
        account.dropped(count, causes.NOT_WRITTEN.reason)
        return False

    def close(self) -> None:
        """Let nothing more pass, and say nothing of it: this export is not wanted."""
        self._closed = True

    def look(self) -> None:
        """Take note of what the full queue in front has dropped since the last time. To be called each second."""
        full = self.account.counts().dropped_before.get(causes.SLOW.reason, 0)
        if full > self._full:
            self._losses.lost(self.account.destination, self._signal, self._doubt() or causes.SLOW, full - self._full)
            self._full, self._full_s = full, time.monotonic()
        elif full < self._full:
            self._full = full  # A forked child begins at zero.

    def not_arrived(self) -> tuple[Signal, int, Cause] | None:
        """Return what is still here when the program ends, and why, as far as that is known."""
        self.look()
        counts, error = self.account.counts(), self.account.last_error
        if not counts.queued:
            if self.account.failing_since_s is None and counts.exported:
                self._losses.arrived(self.account.destination, self._signal)
            return None
        return self._signal, counts.queued, self._doubt() or (error[1] if error is not None else causes.TIMEOUT)

    def on_disk(self) -> tuple[Signal, int, Cause] | None:
        """Return what waits on the disk when the program ends, and why it has not arrived."""
        return None

    def _doubt(self) -> Cause | None:
        """Say why the export in hand has not arrived yet."""
        return self._doubt_of(self._trying, self.account.export_began_s)

    def _doubt_of(self, trying: attempt.Attempt | None, began_s: float | None) -> Cause | None:
        if trying is None or began_s is None:
            return None
        if trying.error is not None or trying.rpc is not None or (trying.status or 0) >= _REDIRECTS:
            return causes.cause_of(trying, self._signal, self._endpoint, probes=False)
        return causes.TIMEOUT if time.monotonic() - began_s > HANGS_S else None

    def sent_all(self, timeout_millis: float) -> bool:
        """Wait until what was exported has been sent; true at once where nothing waits behind this border."""
        del timeout_millis
        return True

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Make the exporter hand over what it keeps itself."""
        try:
            with attempt.attempting():
                flush = self._exporter.force_flush
                takes = "timeout_millis" in inspect.signature(flush).parameters
                return bool(flush(timeout_millis=timeout_millis) if takes else flush())
        except Exception:
            return False

    def shutdown(self, timeout_millis: float = 30_000, **_others: Any) -> None:
        """Stop the exporter."""
        self._stopped = True
        try:
            with attempt.attempting():
                stop = self._exporter.shutdown
                if "timeout_millis" in inspect.signature(stop).parameters:
                    stop(timeout_millis=timeout_millis)
                else:
                    stop()
        except Exception as error:
            self._problem(
                f"stop.{self._signal}", f"the exporter of {self._signal} did not stop: {type(error).__name__}"
            )

    def arrived(self, count: int, outcome: Outcome) -> None:
        """Take note that a batch has arrived, but for what the Collector says it rejected of it."""
        sent = count - outcome.left_out
        not_taken = min(outcome.rejected, sent)
        self.account.exported(sent - not_taken)
        self._say_arrived()
        if outcome.repaired:
            self.repaired(outcome.repaired)
        if outcome.left_out:
            self.leave_out(outcome.left_out, causes.NOT_ENCODED)
        if not_taken:
            self.leave_out(not_taken, Cause("rejected", f"the Collector takes the rest, and says {outcome.said!r}"))

    def _say_arrived(self) -> None:
        if time.monotonic() - self._full_s > HANGS_S:
            self._losses.arrived(self.account.destination, self._signal)

    def leave_out(self, count: int, cause: Cause) -> None:
        """Take note that items are lost for a reason of their own, while others arrive."""
        self.account.dropped(count, cause.reason)
        where = self.account.destination
        self._problem(f"{cause.reason}.{self._signal}", f"of {self._signal} to {where} some are lost: {cause}")

    def repaired(self, count: int) -> None:
        """Take note that items were changed so that they could be encoded."""
        self._problem(
            f"repaired.{self._signal}",
            f"{self._signal} hold what cannot be encoded, such as half of a surrogate pair or an integer of more than "
            f"64 bits: it was replaced, in {count} of a batch first",
        )

    def try_once(self, batch: Any, args: Any, kwargs: Any, *, is_repaired: bool) -> Outcome:
        """Call the exporter, and say how that went."""
        raised: Exception | None = None
        with attempt.attempting(stops_encoding=not is_repaired) as trying:
            self._trying = trying
            try:
                result = self._exporter.export(batch, *args, **kwargs)
            except Exception as error:
                raised = error
            self._trying = None
        if raised is None and result.name == "SUCCESS":
            redirected = trying.status is not None and trying.status >= _REDIRECTS
            if redirected:
                return Outcome(self._cause(trying))
            return Outcome(None, False, *rejected(trying.body), trying.repaired, trying.left_out)
        if trying.says is not None:
            return Outcome(trying.says, trying.says.reason in SIZES, left_out=trying.left_out)
        if isinstance(raised, OSError) and trying.error is None:
            trying.error = raised
        if trying.not_encoded or (raised is not None and trying.error is None and trying.rpc is None):
            return Outcome(causes.NOT_ENCODED, is_data=True)
        if self._watched and not trying.requests and not self._stopped:
            too_large = any("max_request_size" in str(line.msg) for line in trying.lines)
            return Outcome(causes.TOO_LARGE if too_large else causes.NOT_ENCODED, is_data=True)
        cause = self._cause(trying)
        return Outcome(cause, is_data=cause.reason in SIZES)

    def _cause(self, trying: attempt.Attempt) -> Cause:
        if self._says is not None:
            return self._says
        if self._stopped and not trying.requests:
            return causes.ENDED
        return causes.cause_of(trying, self._signal, self._endpoint)


class Outcome(NamedTuple):
    """How one attempt went."""

    cause: Cause | None = None
    """Why not; None where it has arrived."""
    is_data: bool = False
    """Whether it is the items' own fault: others may pass."""
    rejected: int = 0
    said: str = ""
    """What the Collector says of the rejected ones."""
    repaired: int = 0
    """How many were changed so that they could be encoded."""
    left_out: int = 0
    """How many were not in the request, since nothing can encode them."""


class Sending:
    """The attempts for one batch: the whole, then repaired, then halves of it."""

    def __init__(self, border: Border, args: Any, kwargs: Any) -> None:
        self._border = border
        self._with = args, kwargs
        self._tries = 0
        self._away: Cause | None = None
        self._arrived = True

    def all_of(self, batch: Any, count: int) -> bool:
        """Send a batch; return whether all of it has left."""
        border, signal = self._border, self._border.account.signal
        outcome = self._try(batch)
        if outcome.cause is not None and outcome.is_data:
            items = batches.items_of(signal, batch)
            if outcome.cause is causes.NOT_ENCODED:
                items, changed = batches.repaired(signal, items)
                if changed:
                    border.repaired(changed)
                outcome = self._try(batches.batch_of(signal, items), is_repaired=True)
            self._go_on(items, outcome)
        elif outcome.cause is not None and outcome.left_out < count:
            return border.turn_away(batch, count, outcome.cause)
        elif outcome.cause is not None:
            border.leave_out(count, outcome.cause)
            return False
        else:
            border.arrived(count, outcome)
        return self._arrived

    def _try(self, batch: Any, *, is_repaired: bool = False) -> Outcome:
        args, kwargs = self._with
        outcome = self._border.try_once(batch, args, kwargs, is_repaired=is_repaired)
        self._tries += outcome.cause is not None and outcome.cause.reason in SIZES
        return outcome

    def _go_on(self, items: Sequence[Any], outcome: Outcome) -> None:
        """Take note of an attempt with these items, or halve them."""
        border, cause = self._border, outcome.cause
        if cause is None:
            border.arrived(len(items), outcome)
        elif outcome.left_out == len(items):
            self._arrived = False
            border.leave_out(len(items), cause)
        elif not outcome.is_data:
            self._away = cause
            self._arrived &= border.turn_away(batches.batch_of(border.account.signal, items), len(items), cause)
        elif len(items) == 1 or self._tries >= MAX_TRIES:
            self._arrived = False
            border.leave_out(len(items), cause)
        else:
            middle = len(items) // 2
            for half in (items[:middle], items[middle:]):
                self._half(half)

    def _half(self, items: Sequence[Any]) -> None:
        """Send a half, unless nothing arrived a moment ago."""
        outcome = Outcome(self._away)
        if self._away is None:
            outcome = self._try(batches.batch_of(self._border.account.signal, items), is_repaired=True)
        self._go_on(items, outcome)

"""The border of an exporter whose batches are spooled: what passes is on the disk; what becomes of it comes later."""

from __future__ import annotations

from hashlib import blake2s
from typing import TYPE_CHECKING, Any

from otel_pipeline.export import batches, causes
from otel_pipeline.export.border import Border
from otel_pipeline.export.causes import Cause
from otel_pipeline.export.otlp.encoder import encode
from otel_pipeline.export.spool.outlet import Outlet
from otel_pipeline.export.spool.spool import FULL, MEMORY_FULL, OLD, UNANSWERED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.export.accounting import Account
    from otel_pipeline.export.border import Instead
    from otel_pipeline.export.destination import Signal
    from otel_pipeline.export.losses import Losses
    from otel_pipeline.export.otlp.http import Outcome
    from otel_pipeline.export.spool.outlet import Transport
    from otel_pipeline.export.spool.sender import Sender

GATHER_S = 1.0
NEAR_GATHER_S = 0.1
"""In `local` and `test`, where somebody may be waiting to see it."""
_CAUSES = {
    FULL: Cause(FULL, "more waits than export.spool lets", "set it higher, or record less (sample_rate)"),
    MEMORY_FULL: Cause(MEMORY_FULL, "more waits than may be kept in memory", "give it a disk: OTEL_PIPELINE_STATE_DIR"),
    OLD: Cause(OLD, "it waits for longer than export.spool_age", "look at the Collector"),
    UNANSWERED: Cause(UNANSWERED, "it takes others, and never answers to these as it should", "look at its log"),
    UNREADABLE: Cause(UNREADABLE, "its file was deleted or changed", "leave the files in the state folder alone"),
}


class SpoolingBorder(Border):
    """Takes an exporter's place, encodes, and appends. Safe in any thread; never raises.

    Args:
        exporter: the SDK's, for what a metric reader reads of it.
        account: counts what passes.
        losses: told of what does not arrive.
        problem: told once of what cannot be encoded.
        sender: of the spool.
        transport: sends.
        endpoint: where to, in full.
        service: whose telemetry it is.
        instead: what takes batches while nobody listens.
    """

    def __init__(
        self,
        exporter: Any,
        account: Account,
        losses: Losses,
        problem: Callable[[str, str], None],
        *,
        sender: Sender,
        transport: Transport,
        endpoint: str,
        service: str,
        instead: Instead | None = None,
    ) -> None:
        super().__init__(exporter, account, losses, problem, endpoint=endpoint, instead=instead)
        account.spools = True
        self._sender = sender
        digest = blake2s(f"{service}\x00{endpoint}".encode(), digest_size=8).digest()
        self._lane = sender.spool.lane(account.signal, digest, self)
        self._outlet = Outlet(self._lane, transport, self, endpoint, NEAR_GATHER_S if instead is not None else GATHER_S)
        sender.outlets.append(self._outlet)
        account.set_aside = self._lane.set_aside

    def _pass(self, batch: Any, count: int, args: Any, kwargs: Any) -> bool:
        """Encode a batch and append it."""
        del args, kwargs
        account = self.account
        if account.queue_size is None:
            account.taken.cell.value += count
        account.begin(count)
        try:
            if self._instead is not None and not self._instead.reachable():
                return self.turn_away(batch, count, causes.REFUSED)
            return self._append(batch)
        finally:
            account.ended()
            self._sender.wake()

    def _append(self, batch: Any) -> bool:
        """Append a batch, in parts where it is too large; return whether all of it is spooled."""
        encoded = encode(self._signal, batch)
        if len(encoded.body) > self._sender.spool.largest:
            items = batches.items_of(self._signal, batch)
            if len(items) > 1:
                middle = len(items) // 2
                halves = (batches.batch_of(self._signal, each) for each in (items[:middle], items[middle:]))
                appended = [self._append(each) for each in halves]
                return all(appended)
            self.leave_out(len(items), causes.TOO_LARGE)
            return False
        if encoded.repaired:
            self.repaired(encoded.repaired)
        if encoded.left_out:
            self.leave_out(encoded.left_out, causes.NOT_ENCODED)
        if encoded.items:
            self.account.spooled(encoded.items)
            try:
                self._sender.spool.append(self._lane, encoded.body, encoded.items)
            except Exception:
                self.account.lost(encoded.items, causes.NOT_WRITTEN.reason, of_others=False)
                raise
        return not encoded.left_out

    def sent(self, count: int, outcome: Outcome, *, of_others: bool) -> None:
        """Take note that so many were taken."""
        not_taken, said = outcome.rejected
        not_taken = min(not_taken, count)
        self.account.sent(count - not_taken, of_others=of_others)
        self._say_arrived()
        if not_taken:
            cause = Cause("rejected", f"the Collector takes the rest, and says {said!r}")
            self._say(cause)
            self.account.lost(not_taken, cause.reason, of_others=of_others)

    def refused(self, count: int, cause: Cause, *, of_others: bool) -> None:
        """Take note that so many will never be taken."""
        self.account.count_failure(cause)
        self.account.lost(count, cause.reason, of_others=of_others)
        self._losses.lost(self.account.destination, self._signal, cause, count)

    def waits(self, cause: Cause) -> None:
        """Take note that an attempt has failed."""
        self.account.count_failure(cause)
        folder = self._sender.spool.own.path
        self._losses.lost(
            self.account.destination, self._signal, cause, 0, f"they are kept in {folder}, and sent again"
        )

    def set_aside(self, count: int, cause: Cause) -> None:
        """Take note that so many are not taken while others are: they wait by themselves."""
        where = self.account.destination
        self._problem(
            f"set_aside.{self._signal}",
            f"of {self._signal} to {where} {count:,} are not taken, while others are: {cause}. They are set aside, and "
            "tried again now and then; status() has how many there are",
        )

    def dropped(self, count: int, reason: str) -> None:
        """Take note that so many that waited are lost."""
        self.account.lost(count, reason, of_others=False)
        self._losses.lost(self.account.destination, self._signal, _CAUSES[reason], count)

    def dropped_of_others(self, count: int, reason: str) -> None:
        """Take note that so many are lost that others had left."""
        self.account.lost(count, reason, of_others=True)
        self._say(_CAUSES[reason])

    def _say(self, cause: Cause) -> None:
        where = self.account.destination
        self._problem(f"{cause.reason}.{self._signal}", f"of {self._signal} to {where} some are lost: {cause}")

    def _doubt(self) -> Cause | None:
        return self._doubt_of(self._outlet.trying, self._outlet.began_s)

    def not_arrived(self) -> tuple[Signal, int, Cause] | None:
        """Return what is in no file when the program ends, and so is lost."""
        self.look()
        count = self.account.counts().queued + self._sender.spool.in_memory(self._lane)
        if not count:
            return None
        return self._signal, count, self._why()

    def _why(self) -> Cause:
        failing, error = self.account.failing_since_s is not None, self.account.last_error
        return self._doubt() or (error[1] if error is not None and failing else causes.TIMEOUT)

    def on_disk(self) -> tuple[Signal, int, Cause] | None:
        """Return what waits on the disk when the program ends, and why it has not arrived."""
        count = self.account.counts().spooled - self._sender.spool.in_memory(self._lane)
        return (self._signal, count, self._why()) if count > 0 else None

    def shutdown(self, timeout_millis: float = 30_000, **_others: Any) -> None:
        """Do nothing: what waits is still to be sent, and the spool ends last."""
        del timeout_millis

    def sent_all(self, timeout_millis: float) -> bool:
        """Wait until what was appended has been sent."""
        return self._sender.drain(timeout_millis / 1000, only=self._outlet)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Wait until what was appended has been sent."""
        return self.sent_all(timeout_millis)

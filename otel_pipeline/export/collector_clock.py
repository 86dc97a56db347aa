"""When the Collector answered, and what its clock said then: the `Date` of the answers to OTLP over HTTP."""

from __future__ import annotations

from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Answers:
    """Tells `listener` (sent_s, received_s, date_s) of each answer, all s since the epoch. In any thread; never raises.

    Only the answers of one machine count, the first that answered: several clocks cannot be compared with ours.
    """

    def __init__(self) -> None:
        self.listener: Callable[[float, float, float], object] | None = None
        self._host: str | None = None

    def note(self, sent_s: float, received_s: float, written: str | None, host: str | None) -> None:
        """Tell the listener of an answer by this host. A missing `Date`, or one that cannot be read, is no evidence."""
        try:
            listener = self.listener
            if listener is None or not written:
                return
            if self._host is None:
                self._host = host
            if host == self._host:
                date = parsedate_to_datetime(written)
                # "-0000" reads as no time zone; HTTP has no other than GMT.
                date = date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)
                listener(sent_s, received_s, date.timestamp())
        except Exception:
            # Whatever an answer holds, the export has been made.
            return

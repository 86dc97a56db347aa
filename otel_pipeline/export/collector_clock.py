"""When the Collector answered, and what its clock said then: the `Date` of the answers to OTLP over HTTP."""

from __future__ import annotations

import os
import time
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

_CREDENTIALS = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_{}CREDENTIAL_PROVIDER"


class Answers:
    """Tells `listener` (sent_s, received_s, date_s) of each answer, all s since the epoch. In any thread; never raises.

    Only the answers of one machine count, the first that answered: several clocks cannot be compared with ours.
    """

    def __init__(self) -> None:
        self.listener: Callable[[float, float, float], object] | None = None
        self._host: str | None = None

    def note(self, sent_s: float, received_s: float, response: Any) -> None:
        """Tell the listener of an answer. A missing `Date`, or one that cannot be read, is no evidence."""
        try:
            listener = self.listener
            written = response.headers.get("Date")
            if listener is None or not written:
                return
            host = urlsplit(response.url).hostname
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


def session(signal: str, answers: Answers, *, loopback: bool) -> Any:
    """Make the `requests.Session` of an exporter; None where the application's credential provider gives it one.

    It differs from the one that the exporter would make only in that it looks at the clock. A response hook would be
    told of the answer, but not of when its request was sent.
    """
    import requests

    class TimedSession(requests.Session):
        """Looks at the clock before and after each request, retries included."""

        def send(self, request: Any, **kwargs: Any) -> Any:
            """Send, as the base does."""
            sent_s = time.time()
            response = super().send(request, **kwargs)
            answers.note(sent_s, time.time(), response)
            return response

    if loopback:
        made = TimedSession()
        made.trust_env = False  # HTTP_PROXY is not for this machine.
        return made
    if any(os.environ.get(_CREDENTIALS.format(kind)) for kind in ("", f"{signal.upper()}_")):
        return None
    return TimedSession()

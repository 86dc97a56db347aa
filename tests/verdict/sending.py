"""What a producer's sends come to, second by second: the real verdict, from what the clients would show."""

from __future__ import annotations

from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.evidence import Evidence
from otel_pipeline.verdict.sends import FAILED, SENT, ProducerKey, Sends
from otel_pipeline.verdict.verdict import Verdict

TIMEOUT_S = 120.0
"""Kafka's own `delivery.timeout.ms`."""
RATE = 5
KEY = ProducerKey("k1", "orders")


class Sending:
    """A process that sends 5 messages a second, all of which are acknowledged until the harm begins."""

    def __init__(self):
        self.now_s, self.harm_s = 0, None
        self.sent = self.failed = 0
        self._verdict, self._was, self._seen = Verdict(HealthSettings()), None, []

    def run(self, seconds, *, fails=0.0, answered=True):
        """Let so many seconds pass: a share of the sends fails, or nothing is answered."""
        if self.harm_s is None and (fails or not answered):
            self.harm_s = self.now_s
        for second in range(1, int(seconds) + 1):
            self.now_s += 1
            if answered:
                self.sent += RATE
                self.failed += round(RATE * fails)
            counts = Sums({SENT: self.sent, FAILED.label("KafkaTimeoutError"): self.failed})
            waiting = {} if answered else {"open": second * RATE, "oldest_s": float(second)}
            sends = Sends(counts, timeout_s=TIMEOUT_S, **waiting)
            (judged,) = self._verdict.judge([Evidence(KEY, counts, sends=sends)], float(self.now_s), 0.0)
            light = judged.lights["delivered"]
            if self._was != (light.state, light.row):
                self._was = light.state, light.row
                self._seen.append((self.now_s, *self._was))
        return self

    def of(self, _light):
        """The changes: (second, colour, row)."""
        return self._seen

    def first(self, _light, colour, *, row):
        """When it first had this colour by this row."""
        return next((at_s for at_s, state, of in self._seen if (state, of) == (colour, row)), None)

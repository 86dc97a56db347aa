"""A spool for tests: what it tells its lanes' owners, and a clock that is set by hand."""

from __future__ import annotations

from collections import Counter

from otel_pipeline.export.spool.spool import Spool

DIGEST = b"12345678"


class Told:
    """Outcomes, kept."""

    def __init__(self):
        self.lost = Counter()
        self.lost_of_others = Counter()
        self.arrived = 0
        self.arrived_of_others = 0
        self.waited = []
        self.aside = []
        self.refusals = Counter()

    def dropped(self, count, reason):
        self.lost[reason] += count

    def dropped_of_others(self, count, reason):
        self.lost_of_others[reason] += count

    def sent(self, count, outcome, *, of_others):
        del outcome
        if of_others:
            self.arrived_of_others += count
        else:
            self.arrived += count

    def refused(self, count, cause, *, of_others):
        del of_others
        self.refusals[cause.reason] += count

    def set_aside(self, count, cause):
        self.aside.append((count, cause.reason))

    def waits(self, cause):
        self.waited.append(cause.reason)


class Spooled:
    """A spool with one lane of spans."""

    def __init__(self, folder, max_bytes=8_000_000, age_s=100.0, service="app", digest=DIGEST, signal="traces"):
        self.now_s = 1000.0
        self.problems = []
        self.told = Told()
        self.spool = Spool(
            folder, service, max_bytes, age_s, lambda _key, text: self.problems.append(text), lambda: self.now_s
        )
        self.lane = self.spool.lane(signal, digest, self.told)

    def append(self, *payloads):
        for payload in payloads:
            self.spool.append(self.lane, payload, 1)

    def take(self, at_most=0):
        """All that it gives, as it is sent."""
        found = []
        while (taken := self.spool.take(self.lane, at_most)) is not None:
            if taken.part.frames:
                found.append(taken.part.payload)
            self.spool.done(self.lane, taken)
        return found

    def files(self):
        return sorted(path.name.rpartition("-")[2] for path in self.spool.own.path.glob("*.spool"))

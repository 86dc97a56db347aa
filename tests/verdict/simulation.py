"""A process that reads a topic, simulated: log, broker, client, application and clocks; its lights second by second.

Detectors, evidence and verdict are the real ones. What is simulated is what they are told by: each function of an
application or a broker is a generator that yields how many seconds pass.
"""

from __future__ import annotations

from otel_pipeline.detectors.settings import Objective
from tests.verdict.simulated_client import SimulatedClient


class Simulation(SimulatedClient):
    """One consumer of `orders`, which is looked at and judged once a second."""

    def __init__(self, *, threshold_s=None, objective=0.99, **said):
        objectives = ()
        if threshold_s is not None:
            objectives = (Objective("fresh", destination="orders", threshold_s=threshold_s, objective=objective),)
        super().__init__(objectives=objectives, **said)
        self.seen = []
        """(seconds since the start, light, colour, row, words) at each change of colour or row."""
        self._was, self._words = {}, {}
        self.spawn(self._fetches())
        self.spawn(self._looks())

    def _looks(self):
        self.flows.look()  # The process has been looked at before its first message comes.
        while True:
            yield 1.0
            self.look()

    def look(self):
        """Look and judge, as once a second."""
        self.flows.look()
        found = [each for each in self._gathering.evidence() if not each.of_producer]
        for flow in self._verdict.judge(found, self.now_s, self.now_ms / 1000):
            for name, light in flow.lights.items():
                self._words[name] = light.why
                if self._was.get(name) != (light.state, light.row):
                    self._was[name] = light.state, light.row
                    self.seen.append((round(self.at_s), name, light.state, light.row, light.why))

    def of(self, name):
        """The changes of one light: (second, colour, row)."""
        return [(at_s, state, row) for at_s, light, state, row, _ in self.seen if light == name]

    def words(self, name):
        """What a light says now."""
        return self._words[name]

    def colours(self, name, since_s=0):
        """The colours that a light had."""
        return {state for at_s, state, _ in self.of(name) if at_s >= since_s}

    def first(self, name, *colours, row=None):
        """When a light first had one of these colours, and the row, s; None where it never did."""
        return next(
            (at_s for at_s, state, of in self.of(name) if state in colours and (row is None or row == of)), None
        )

"""A whole process against the real Collector: it finds the bound, exports it, and both ends reach the Collector."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from otel_pipeline.export.otlp_reader import MetricRecord, read

if TYPE_CHECKING:
    from real.servers import Collector

pytestmark = pytest.mark.real

APP = """
import sys, time
import otel_pipeline
pipe = otel_pipeline.instrument(sys.argv[1], endpoint=sys.argv[2], environment="production")
for _ in range(3):
    with otel_pipeline.inference("model"):
        pass
    pipe.flush()
time.sleep(1.2)
print(pipe.health().clock_bound_s)
"""


def test_the_collectors_clock_is_known_after_three_exports(real_collector: Collector) -> None:
    """On one machine: 0 lies between both ends."""
    service = f"clock-{time.time_ns()}"
    done = subprocess.run(
        [sys.executable, "-c", APP, service, real_collector.http], capture_output=True, text=True, check=True
    )
    assert 0 < float(done.stdout) < 1.1, done.stderr

    ends: dict[str, float] = {}
    deadline = time.monotonic() + 20
    while len(ends) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
        for record in read(real_collector.output):
            if isinstance(record, MetricRecord) and record.resource.get("service.name") == service:
                for point in record.points if record.name == "otel_pipeline.clock.offset_bound" else ():
                    if point.attributes["otel_pipeline.reference"] == "collector" and point.value is not None:
                        ends[point.attributes["otel_pipeline.bound"]] = point.value
    assert ends["lower"] <= 0 <= ends["upper"]

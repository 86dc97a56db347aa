"""A destination's counters leave within two seconds of its first sight, from a process that exports every 15 s."""

from __future__ import annotations

import socket

import pytest

from otel_pipeline.dev.receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import MetricRecord, read

APP = """
import time
from operator import itemgetter
import otel_pipeline
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.clients import Consumer

pipe = otel_pipeline.instrument("app", endpoint={endpoint!r}, environment="production")
consumer = Consumer(
    pipe._engine, MessageFields(*map(itemgetter, range(8))), attributes={{"messaging.system.name": "kafka"}},
    client_id=None, group="g", excluded=False, operation="poll",
)
time.sleep({before})
print(time.time_ns(), flush=True)
consumer.partition("orders", 0)
for _ in range({after} * 20):
    consumer.partition("orders", 0).consumed.value += 1
    time.sleep(0.05)
print(pipe.health())
"""


def of_orders(folder):
    """(time in ns, name, attributes, value) of each point of a counter about `orders`, in order."""
    return sorted(
        (point.time_ns, record.name, tuple(sorted(point.attributes.items())), point.value)
        for record in read(folder / "telemetry.jsonl")
        if isinstance(record, MetricRecord) and record.kind == "sum"
        for point in record.points
        if point.attributes.get("messaging.destination.name") == "orders"
    )


@pytest.mark.parametrize("before", [0.3, 2.5])
def test_counters_leave_at_zero_soon_after_the_first_message(programs, tmp_path, before):
    """The detectors' sums are made at 0 at the first look; what grows at once is seen small."""
    with otlp_receiver(tmp_path / "received") as endpoint:
        ran = programs.run(APP.format(endpoint=endpoint, before=before, after=4))
    assert ran.code == 0, ran.err
    seen_ns = int(ran.out.split()[0])
    points = of_orders(tmp_path / "received")
    first_ns = points[0][0]
    first = {name: value for time_ns, name, _, value in points if time_ns - first_ns < 5e8}

    assert 0 < first_ns - seen_ns < 2e9
    assert first["otel_pipeline.order.violations"] == first["otel_pipeline.messages.missing"] == 0
    assert first["messaging.client.consumed.messages"] <= 40
    # And the exports that were made let the process know its clock.
    assert ", clock within " in ran.out


def test_a_collector_that_does_not_answer_does_not_hold_the_program(programs):
    """An early export is under way when it leaves."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        left = APP + "print(time.time())\n"
        ran = programs.run(left.format(endpoint=endpoint, before=0.3, after=2))

    assert ran.code == 0, ran.err
    assert ran.ended_s - float(ran.out.split()[-1]) < 2 + 2
    assert "clock within" not in ran.out
    assert "Traceback" not in ran.err, ran.err

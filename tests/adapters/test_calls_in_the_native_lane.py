"""How many Python functions of ours and of OpenTelemetry's a message costs: the same on any machine, so a rise fails."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from importlib.util import find_spec
from itertools import islice

import pytest
from kafka.producer.future import FutureRecordMetadata

import otel_pipeline

MESSAGES, TIMES = 100, 5
BODIES = {
    "json": [json.dumps({"id": number, "price": number / 7}).encode() for number in range(MESSAGES)],
    "with a schema's id": [b"\0\0\0\0\7" + b"\x02\x06abc%d" % number for number in range(MESSAGES)],
    "raw": [b"x" * 100] * MESSAGES,
}
BUDGETS = {
    "sampled": {"send": 12, "step": 20, "send within a step": 24.5},
    "not sampled": {"send": 11, "step": 13.5, "send within a step": 22.5},
}
if not hasattr(FutureRecordMetadata, "rebind"):  # Clients before 3.0 answer one by one.
    BUDGETS = {
        "sampled": {"send": 18.5, "step": 20, "send within a step": 30.5},
        "not sampled": {"send": 13.5, "step": 13.5, "send within a step": 24.5},
    }
OF_THRESHOLDS = {
    "sampled": {"send": 28.5, "step": 52.5, "send within a step": 54.5},
    "not sampled": {"send": 14.5, "step": 16, "send within a step": 26.5},
}
LOOKS = 4
"""More where values are looked at, which takes up to 1 % of the time, and so more calls on a slower machine."""


class Calls:
    """Counts calls of functions in the packages that an instrumented application would not have."""

    def __init__(self):
        self.found = Counter()

    def __call__(self, frame, event, _argument):
        file = frame.f_code.co_filename
        if event == "call" and ("/otel_pipeline/" in file or "/opentelemetry/" in file):
            self.found[f"{file.rpartition('/')[2]}:{frame.f_code.co_name}"] += 1

    def least(self, work):
        """The calls of a message while something is done with MESSAGES of them, here and in newer threads.

        The least of some times: now and then a value is looked at, or metrics are made ready.
        """
        found = []
        for _ in range(TIMES):
            self.found.clear()
            sys.setprofile(self)
            try:
                work()
            finally:
                sys.setprofile(None)
            found.append({name: count / MESSAGES for name, count in self.found.most_common()})
        return min(found, key=lambda each: sum(each.values()))


@pytest.mark.broker
@pytest.mark.skipif(find_spec("opentelemetry.sdk._shared_internal") is None, reason="older SDKs queue a span otherwise")
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("sampled", "rate"), [("sampled", 1.0), ("not sampled", 0.0)])
def test_a_message_costs_so_many_calls(mock, monkeypatch, body, sampled, rate):
    """In a process whose spans nobody but us exports: one send with its acknowledgement, one step of a loop."""
    counts, found = counted(mock, monkeypatch, body, sample_rate=rate)
    more = LOOKS if body == "json" else 0

    assert all(1 < count <= BUDGETS[sampled][name] + more for name, count in counts.items()), (counts, found)


@pytest.mark.broker
@pytest.mark.skipif(find_spec("opentelemetry.sdk._shared_internal") is None, reason="older SDKs queue a span otherwise")
@pytest.mark.parametrize(("sampled", "rate"), [("sampled", 1.0), ("not sampled", 0.0)])
def test_a_message_that_thresholds_decide_of(mock, monkeypatch, sampled, rate):
    """The SDK's composite sampler: each sampled message has a tracestate, which is written, read and handed on."""
    experimental = pytest.importorskip("opentelemetry.sdk.trace._sampling_experimental")
    root = experimental.composable_traceid_ratio_based(rate)
    sampler = experimental.composite_sampler(experimental.composable_parent_threshold(root))
    monkeypatch.setattr("otel_pipeline.export.sampling.make", lambda _config: sampler)
    counts, found = counted(mock, monkeypatch, "raw")

    assert all(1 < count <= OF_THRESHOLDS[sampled][name] for name, count in counts.items()), (counts, found)


def counted(mock, monkeypatch, body, **options):
    """How many calls each of the three things takes, together and one by one."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1000000")  # What a full one drops is counted, by two more.
    pipe = otel_pipeline.instrument("calls", environment="staging", endpoint="http://127.0.0.1:9", **options)
    calls, topic, values = Calls(), mock.topic(), BODIES[body]
    threading.setprofile(calls)  # For the client's own thread, which hears of acknowledgements.
    try:
        producer = mock.producer(linger_ms=60_000)  # Batches of MESSAGES, however busy the machine is.
    finally:
        threading.setprofile(None)
    try:

        def send():
            for value in values:
                producer.send(topic, value, partition=0)
            producer.flush()

        for _ in range(30):  # What is learned of values is learned by then.
            send()
        found = {"send": calls.least(send)}
        consumer = mock.consumer(topic)
        loop = iter(consumer)
        list(islice(loop, 25 * MESSAGES))
        found["step"] = calls.least(lambda: list(islice(loop, MESSAGES)))
        found["send within a step"] = calls.least(send)
        consumer.close()
        assert any("native lane" in each for each in pipe.status().providers)
    finally:
        pipe.shutdown(0)
    return {name: sum(each.values()) for name, each in found.items()}, found

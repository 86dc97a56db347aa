"""What one message runs through is short enough to be read: a step of the loop, and a send."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import otel_pipeline

ROOT = str(Path(otel_pipeline.__file__).parent)
MESSAGES = 2_400
"""Until the contract is learned: then nearly every message is only passed by it."""


def shortest(act, times=40):
    """(files, lines) of ours that run, in the shortest of some runs: now and then a value is compared or a metric read."""
    found = []
    for _ in range(times):
        seen = set()

        def trace(frame, _event, _argument, seen=seen):
            if not frame.f_code.co_filename.startswith(ROOT):
                return None

            def line(frame, event, _argument):
                if event == "line":
                    seen.add((frame.f_code.co_filename, frame.f_lineno))
                return line

            return line

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            act()
        finally:
            sys.settrace(before)
        found.append((len({file for file, _ in seen}), len(seen)))
    return min(found, key=lambda each: each[1])


@pytest.mark.broker
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python count lines otherwise")
@pytest.mark.parametrize(("rate", "step", "send"), [(1.0, (8, 200), (10, 184)), (0.0, (7, 150), (10, 163))])
def test_the_path_of_a_message_is_short(mock, tmp_path, monkeypatch, rate, step, send):
    """One step of the loop (finish one message, begin the next), and one send within it: at most so many files, lines."""
    for name in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{name}_EXPORTER", "none")
    pipe = otel_pipeline.instrument("path", environment="staging", sample_rate=rate)
    try:
        topic = mock.topic()
        producer = mock.producer()
        for _ in range(MESSAGES + 60):
            producer.send(topic, b'{"a":1}', partition=0)
        producer.flush()
        loop = iter(mock.consumer(topic))
        for _ in range(MESSAGES):
            next(loop)

        found = shortest(lambda: next(loop)), shortest(lambda: producer.send(topic, b'{"a":1}'))
    finally:
        pipe.shutdown(0)

    assert all(
        is_ <= most
        for pair, limit in zip(found, (step, send), strict=True)
        for is_, most in zip(pair, limit, strict=True)
    ), found

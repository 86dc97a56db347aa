"""A place of ours that is switched off is missed by nobody but the telemetry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kafka import TopicPartition

import otel_pipeline

PLACES = sorted(
    {
        name
        for path in Path(otel_pipeline.__file__).parent.rglob("*.py")
        for name in re.findall(r'\bplace\("([^"]+)"', path.read_text("utf-8"))
    }
    | {"hook.send", "hook.process", "hook.inference"}
)


def run(kafka, topic):
    """An application that does all that we are called for; what it got."""
    producer = kafka.producer()
    sent = [producer.send(topic, b"%d" % number, partition=0, headers=[("a", b"1")]) for number in range(6)]
    got = [future.get(10).offset for future in sent]
    consumer = kafka.consumer(topic)
    for record in consumer:
        with otel_pipeline.process(record), otel_pipeline.inference("m"):
            got.append(record.value)
        if len(got) == 8:
            break
    consumer.seek(TopicPartition(topic, 0), 2)
    for record in kafka.poll(consumer, 4):
        with otel_pipeline.process(record), otel_pipeline.require_fresh("1h"):
            got.append(record.value)
    consumer.commit()
    consumer.close()
    return got, [header for header in record.headers if header[0] == "a"]


def hooked(*_arguments):
    raise ValueError


@pytest.mark.broker
@pytest.mark.parametrize("place", PLACES)
def test_the_application_goes_on(telemetry, mock, place):
    """It gets what it would get without us, and nothing of the place fails any more."""
    telemetry.real_time()
    hooks = dict.fromkeys(("send", "process", "inference"), hooked)
    pipe = telemetry.instrument(hooks=hooks, event_time=hooked)
    pipe._guard.place(place).off = True

    got = run(mock, mock.topic())

    assert got == ([0, 1, 2, 3, 4, 5, b"0", b"1", b"2", b"3", b"4", b"5"], [("a", b"1")])
    assert place not in pipe.status().errors

"""A framework on top of any client: it hands messages to a pool or to a task, and says only where they are processed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from otel_pipeline.engine.framework import processing, take_over
from tests.contract.conftest import current


class Envelope:
    """What the framework makes of a message."""

    def __init__(self, raw):
        self.raw = raw


class Framework:
    """Reads with the driver's client; handlers are called elsewhere."""

    def __init__(self, reader, handler):
        self.reader, self.handler = reader, handler

    def process_message(self, envelope):
        """Call the handler."""
        return self.handler(envelope.raw)

    async def process_later(self, envelope, *, pause_s=0.0):
        """Call the handler, in a task of its own."""
        await asyncio.sleep(pause_s)
        return self.handler(envelope.raw)

    def run_in_a_pool(self, count):
        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(self.process_message, Envelope(self.reader.receive_one())) for _ in range(count)]
        return [each.exception() or each.result() for each in done]

    def run_in_tasks(self, count):
        async def main():
            messages = [Envelope(self.reader.receive_one()) for _ in range(count)]
            return await asyncio.gather(
                *(self.process_later(each, pause_s=0.001) for each in messages), return_exceptions=True
            )

        return asyncio.run(main())


@pytest.fixture
def framework(driver, instrument, telemetry):
    """A function that begins with a topic and a handler; both methods are patched as an adapter would."""
    pipe = instrument()

    def begin(topic, handler, *, taken_over=True, message_of=lambda _self, envelope, **_: envelope.raw):
        reader = driver.reader(topic)
        found = Framework(reader, handler)
        engine = pipe._engine
        for name in ("process_message", "process_later"):
            pipe._patches.replace(
                Framework,
                name,
                processing(engine, message_of, lambda self: self.reader.client),
            )
        if taken_over:
            (kind,) = engine.clients
            take_over(engine, kind, reader.client)
        return found

    begin.pipe = pipe
    return begin


@pytest.mark.parametrize("way", ["run_in_a_pool", "run_in_tasks"])
def test_one_span_for_each_message_where_its_handler_runs(driver, framework, telemetry, way):
    """Its sender's child, with the handler's exception; the client's own loop makes none besides."""
    topic = driver.topic()
    driver.send_many(topic, [b"%d" % at for at in range(4)])

    def handle(message):
        if driver.read(message, "offset") == 3:
            raise ValueError("of the handler")
        return current()

    running = framework(topic, handle)
    found = getattr(running, way)(4)
    running.reader.close()

    spans = [span for span in telemetry.spans() if span.kind == "CONSUMER"]
    senders = {span.span_id for span in telemetry.spans() if span.kind == "PRODUCER"}
    assert [found[:3], type(found[3])] == [[f"process {topic}"] * 3, ValueError]
    assert sorted(span.status for span in spans) == ["ERROR", "UNSET", "UNSET", "UNSET"]
    assert {span.parent_span_id for span in spans} == senders
    assert framework.pipe.status().problems == ()


def test_a_message_in_hand_has_one_span_all_the_same(driver, framework, telemetry):
    """Without taking over, where the framework calls the handler right in the client's loop."""
    topic = driver.topic()
    driver.send(topic, b"a")
    running = framework(topic, lambda _message: current(), taken_over=False)
    seen = []
    running.reader.loop(lambda message: seen.append(running.process_message(Envelope(message))), 1)
    running.reader.close()

    assert seen == [f"process {topic}"]
    assert len([span for span in telemetry.spans() if span.kind == "CONSUMER"]) == 1


@pytest.mark.parametrize(
    ("message_of", "errors"), [(lambda *_: None, {}), (lambda *_: 1 / 0, {"framework": 1})], ids=["none", "raises"]
)
def test_the_handler_is_called_in_any_case(driver, framework, telemetry, message_of, errors):
    """What is no message, and what we cannot read, is processed as if we were not there."""
    topic = driver.topic()
    running = framework(topic, lambda message: message, message_of=message_of)

    assert running.process_message(Envelope("a")) == "a"
    assert (telemetry.spans(), framework.pipe.status().errors) == ([], errors)
    running.reader.close()

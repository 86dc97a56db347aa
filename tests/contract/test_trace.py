"""One trace through every client: what the spans are, whose children, and what is current when."""

from __future__ import annotations

import inspect

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import otel_pipeline
from otel_pipeline.testing.trees import tree
from tests.contract.conftest import current

TRACER = trace.get_tracer("application")


def flow(telemetry, *attributes, links=False):
    """The tree without what one call has returned: how many calls there are is the broker's affair."""
    spans = [span for span in telemetry.spans() if span.attributes.get("messaging.operation.type") != "receive"]
    return tree(spans, attributes, links=links)


def processed(telemetry):
    return [span for span in telemetry.spans() if span.kind == "CONSUMER"]


def test_the_handler_and_its_sends_continue_the_senders_trace(anywhere, instrument, telemetry):
    """Send, process, the application's own span and the next send are one trace."""
    source, target = anywhere.topic(), anywhere.topic("next")
    instrument()
    anywhere.send_many(source, [b"a", b"b"])

    def handle(_message):
        with TRACER.start_as_current_span("handle"):
            anywhere.send(target, b"x")

    reader = anywhere.reader(source)
    reader.loop(handle, 2)
    reader.close()
    send = anywhere.send_word
    if anywhere.can.process_span != "no":
        chain = f"{send} {source} PRODUCER\n  process {source} CONSUMER\n    handle INTERNAL\n      {send} {target} PRODUCER"
        assert flow(telemetry) == f"{chain}\n{chain}"
    else:
        sent, handled = f"{send} {source} PRODUCER", f"handle INTERNAL\n  {send} {target} PRODUCER"
        assert flow(telemetry) == f"{sent}\n{sent}\n{handled}\n{handled}"


def test_what_the_spans_say(driver, instrument, telemetry):
    """All attributes of send and process, compared with one literal."""
    topic = driver.topic()
    instrument(environment="staging")
    driver.send(topic, b"a")
    reader = driver.reader(topic, group="readers", client_id="reader")
    message = reader.receive_one()
    if not driver.inside(current):
        with otel_pipeline.process(message, consumer=reader.client):
            pass
    reader.close()

    client = {"messaging.system.name": driver.system, "messaging.destination.name": topic}
    both = {"messaging.destination.partition.id": "0", "kafka.offset": 0}
    numbers = {name: both[name] for name in driver.names}
    group = {"messaging.consumer.group.name": "readers"} if driver.can.groups else {}
    found = {span.kind: dict(span.attributes) for span in telemetry.spans() if span.kind != "CLIENT"}
    where = {attributes.pop("server.address", None) for attributes in found.values()}
    ports = {attributes.pop("server.port", None) for attributes in found.values()}
    clusters = {attributes.pop("kafka.cluster.id", None) for attributes in found.values()}
    ages = [found["CONSUMER"].pop(f"otel_pipeline.{age}.age") for age in ("data", "delivery")]
    found["PRODUCER"].pop("messaging.client.id", None)
    known = found["CONSUMER"].pop("messaging.client.id", None)
    if driver.can.cluster == "no":
        clusters -= set(sorted(clusters - {None})[:1])  # Its producer may know it.
    assert found == {
        "PRODUCER": {
            **client,
            **numbers,
            "messaging.operation.name": driver.send_word,
            "messaging.operation.type": "send",
        },
        "CONSUMER": {
            **client,
            **numbers,
            **group,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "otel_pipeline.hops": 1,
            "otel_pipeline.origin.environment": "staging",
        },
    }
    assert [len(each) for each in (where, ports, clusters)] == [1, 1, 1]
    assert driver.can.cluster in {"in newer versions", "no" if None in clusters else "yes"}
    assert known == "reader"
    assert all(isinstance(age, float) for age in ages)


@pytest.mark.parametrize("leave", ["break", "raise"])
def test_nothing_is_current_after_the_loop(driver, instrument, telemetry, leave):
    """However it is left; while it runs, the message's span is."""
    topic = driver.topic()
    instrument()
    driver.send_many(topic, [b"a", b"b"])
    reader, seen = driver.reader(topic), []

    def handle(_message):
        seen.append(current())
        if leave == "raise":
            raise ValueError("of the handler")

    if leave == "raise":
        with pytest.raises(ValueError, match="of the handler"):
            reader.loop(handle, 2)
    else:
        reader.loop(handle, 2)
    if not driver.can.loop_ends:
        reader.close()
    inside = driver.inside(current)
    reader.close()

    names = [f"process {topic}"] * len(seen) if driver.can.process_span != "no" else [None] * len(seen)
    assert (seen, inside) == (names, None)
    assert len(processed(telemetry)) == (len(seen) if driver.can.process_span != "no" else 0)


def test_one_after_the_other(driver, instrument, telemetry):
    """A message that is asked for alone is in hand until the next one, or until the consumer is closed."""
    topic = driver.topic()
    instrument()
    driver.send_many(topic, [b"a", b"b"])
    reader, seen = driver.reader(topic), []
    for _ in range(2):
        reader.receive_one()
        seen.append((driver.inside(current), len(processed(telemetry))))
    reader.close()
    seen.append((driver.inside(current), len(processed(telemetry))))

    name = f"process {topic}"
    by_batch = {
        "kafka-python, `poll`",
        "confluent-kafka, `consume`",
        "confluent-kafka, `AIOConsumer.consume`",
        "confluent-kafka, `ShareConsumer`",
    }
    by_call = driver.name not in by_batch and "process()" not in driver.name
    assert seen == ([(name, 0), (name, 1), (None, 2)] if by_call else [(None, 0)] * 3)


def test_two_consumers_interleaved(driver, instrument, telemetry):
    """Each message is the child of its own sender."""
    first, second = driver.topic("first"), driver.topic("second")
    instrument()
    for topic in (first, second):
        driver.send_many(topic, [b"a", b"b"])
    one, two = driver.reader(first), driver.reader(second)
    for _ in range(2):
        for reader in (one, two):
            with otel_pipeline.process(reader.receive_one()):
                pass
    one.close()
    two.close()

    spans = {(span.trace_id, span.span_id): span.name for span in telemetry.spans()}
    parents = {(span.name, spans[span.trace_id, span.parent_span_id]) for span in processed(telemetry)}
    assert parents == {(f"process {topic}", f"{driver.send_word} {topic}") for topic in (first, second)}


def test_process_in_the_sender_s_trace(driver, instrument, telemetry):
    """Elsewhere than where the message was received: with the consumer's group, and the exception."""
    topic, target = driver.topic(), driver.topic("next")
    instrument()
    driver.send_many(topic, [b"a", b"b"])
    reader = driver.reader(topic, group="readers")
    messages = reader.receive_many(2)
    telemetry_before = len(processed(telemetry))

    def handle():
        with otel_pipeline.process(messages[0], consumer=reader.client):
            driver.send(target, b"x")
        with pytest.raises(ValueError, match="bad"), otel_pipeline.process(messages[1], consumer=reader.client):
            raise ValueError("bad")

    driver.inside(handle)
    reader.close()
    done = processed(telemetry)[telemetry_before:]
    errors = [span.attributes["error.type"] for span in done if span.status == "ERROR"]
    groups = {span.attributes.get("messaging.consumer.group.name") for span in done}

    assert (errors, groups) == (["ValueError"], {"readers" if driver.can.groups else None})
    assert len({span.trace_id for span in telemetry.spans() if span.kind != "CLIENT"}) == 2
    assert f"{driver.send_word} {target}" in {span.name for span in telemetry.spans()}


def test_the_handlers_exception(driver, instrument, telemetry):
    """On the span where the client's way of use lets it be seen; the application gets its own in any case."""
    topic = driver.topic()
    instrument()
    driver.send(topic, b"a")

    def handle(_message):
        raise ValueError("bad")

    reader = driver.reader(topic)
    with pytest.raises(ValueError, match="bad"):
        reader.loop(handle, 1)
    reader.close()

    errors = [span.attributes.get("error.type") for span in processed(telemetry)]
    assert errors == {"yes": ["ValueError"], "no": [None] if driver.can.process_span == "yes" else []}.get(
        driver.can.handler_error, [None]
    )


def test_process_adopts_the_loops_span(driver, instrument, telemetry):
    """Inside of a loop it is the same span, and the exception is on it."""
    topic = driver.topic()
    instrument()
    driver.send(topic, b"a")
    reader = driver.reader(topic)

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        reader.loop(handle, 1)
    reader.close()

    assert flow(telemetry, "error.type") == (
        f"{driver.send_word} {topic} PRODUCER\n  process {topic} CONSUMER ERROR error.type=ValueError"
    )


def test_process_of_a_batch_is_one_span_linked_to_all(driver, instrument, telemetry):
    """A list of messages: child of none of them."""
    topic = driver.topic()
    instrument()
    driver.send_many(topic, [b"a", b"b"])
    reader = driver.reader(topic)
    messages = reader.receive_many(2)
    reader.close()
    telemetry.clear()
    with otel_pipeline.process(messages):
        seen = otel_pipeline.current()

    (span,) = telemetry.spans()
    assert (span.name, span.kind, span.parent_span_id, len(span.links)) == (f"process {topic}", "CONSUMER", "", 2)
    assert (span.attributes["messaging.batch.message_count"], seen.offset) == (2, None)


def test_what_one_call_returns_has_a_span_linked_to_all(anywhere, instrument, telemetry):
    """And the counter has every message, with such a span or without."""
    topic = anywhere.topic()
    instrument()
    anywhere.send_many(topic, [b"%d" % at for at in range(5)])
    telemetry.clear()
    anywhere.reader(topic).receive_many(5)

    pulls = [span for span in telemetry.spans() if span.kind == "CLIENT"]
    told = (sum(span.attributes["messaging.batch.message_count"] for span in pulls), sum(len(s.links) for s in pulls))
    assert told == ((5, 5) if anywhere.can.batches else (0, 0))
    assert [point.value for point in telemetry.metric("messaging.client.consumed.messages").points] == [5]


def test_keys_and_tombstones(driver, configured, telemetry):
    """A message without a body says that it is one; a key stands on spans where that is switched on."""
    if not driver.can.keys:
        pytest.skip("there are none")
    topic = driver.topic()
    configured("capture: {message_key: true}")
    driver.send(topic, None, key=b"k")
    driver.send(topic, b"a", key=b"\xff")
    reader = driver.reader(topic)
    for message in reader.receive_many(2):
        with otel_pipeline.process(message, consumer=reader.client):
            pass
    reader.close()

    said = {
        (span.kind, span.attributes.get("kafka.message.key"), span.attributes.get("kafka.message.tombstone"))
        for span in telemetry.spans()
        if span.kind != "CLIENT"
    }
    assert said == {(kind, *rest) for kind in ("PRODUCER", "CONSUMER") for rest in (("k", True), (None, None))}


def test_baggage_reaches_the_handler_and_what_it_sends(driver, instrument):
    """With the message."""
    topic, target = driver.topic(), driver.topic("next")
    instrument()
    seen = []

    def send():
        token = attach(baggage.set_baggage("tenant", "a+b c"))
        driver.send(topic, b"a")
        detach(token)

    def handle(message):
        with otel_pipeline.process(message):
            seen.append(baggage.get_baggage("tenant"))
            driver.send(target, b"x")

    driver.inside(send)
    driver.reader(topic).loop(handle, 1)
    (forwarded,) = driver.reader(target).receive_many(1)

    assert (seen, dict(driver.read(forwarded, "headers"))["baggage"]) == (["a+b c"], b"tenant=a+b%20c")


def test_excluded_destinations_and_clients_are_left_alone(driver, configured, telemetry):
    """No span, no header, no metric."""
    quiet, loud = driver.topic("quiet"), driver.topic("loud")
    pipe = configured('exclude: {destinations: ["quiet-*"], clients: ["probe-*"]}')
    driver.send(quiet, b"a")
    pipe._engine.active = False
    driver.send(loud, b"a")
    pipe._engine.active = True
    found = []
    for topic, client_id in ((quiet, None), (loud, "probe-1")):
        reader = driver.reader(topic, client_id=client_id)
        message = reader.receive_one()
        with otel_pipeline.process(message, consumer=reader.client):
            found.append(driver.read(message, "headers"))
        reader.close()

    # The settings of clients that are not excluded are told.
    metrics = [metric.name for metric in telemetry.metrics() if metric.name != "otel_pipeline.client.hazard"]
    assert (found, telemetry.spans(), metrics) == ([[], []], [], [])


def test_suppressed_instrumentation_is_respected(driver, instrument, telemetry):
    """Inside of `suppress_instrumentation()` nothing is recorded and nothing is written."""
    topic = driver.topic()
    instrument()
    seen = []

    def suppressed():
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))

    def plain():
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, False))

    driver.inside(suppressed)
    try:
        driver.send(topic, b"a")
        reader = driver.reader(topic)
        seen = driver.read(reader.receive_one(), "headers")
        reader.close()
    finally:
        driver.inside(plain)

    assert (seen, telemetry.spans()) == ([], [])


def test_unsampled_messages_are_counted(driver, instrument, telemetry):
    """Metrics count every message, whatever the sampler decided; the context still travels."""
    topic = driver.topic()
    telemetry.as_in_production()
    telemetry.sample(ALWAYS_OFF)
    instrument()
    driver.send_many(topic, [b"a", b"b"])
    messages = driver.reader(topic).receive_many(2)

    counted = {
        name: [point.value for point in telemetry.metric(f"messaging.client.{name}.messages").points]
        for name in ("sent", "consumed")
    }
    assert (telemetry.spans(), counted) == ([], {"sent": [2], "consumed": [2]})
    assert {dict(driver.read(each, "headers"))["traceparent"][-2:] for each in messages} <= {b"00", b"02"}


def _signature(method):
    """As the method tells it; one of C does not."""
    try:
        return inspect.signature(method)
    except ValueError:
        return None


def test_methods_are_the_clients_own(driver, instrument):
    """Signatures, words and colour while it is instrumented; the very same objects after."""

    def look():
        methods = {(kind.__name__, name): inspect.getattr_static(kind, name) for kind, name in driver.public}
        shape = {
            key: (_signature(method), method.__doc__, inspect.iscoroutinefunction(method))
            for key, method in methods.items()
        }
        return methods, shape

    bare, bare_shape = look()
    pipe = instrument()
    patched, patched_shape = look()
    pipe.uninstrument()

    assert patched_shape == bare_shape
    assert [key for key, method in patched.items() if method is bare[key]] == []
    assert look()[0] == bare


def test_instrumenting_again_does_not_double(driver, instrument, telemetry):
    """A second call gives the same handle; a second round one span per message."""
    first, again = instrument(), instrument()
    first.uninstrument()
    instrument()
    topic = driver.topic()
    driver.send(topic, b"a")

    assert (first is again, telemetry.tree()) == (True, f"{driver.send_word} {topic} PRODUCER")

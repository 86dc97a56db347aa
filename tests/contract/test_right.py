"""What is the application's stays the application's: its headers, its errors, its contexts, its objects."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest

import otel_pipeline
from otel_pipeline.engine.guard import OFF_AFTER


def sent_headers(driver, topic, count=1):
    """The headers of the first messages, as they are on the broker."""
    reader = driver.reader(topic)
    found = [driver.read(each, "headers") for each in reader.receive_many(count)]
    reader.close()
    return found


def test_the_callers_header_list_is_not_changed(anywhere, instrument):
    """A list that is used again and again stays as it was, and each message has one context, its own."""
    topic = anywhere.topic()
    instrument()
    headers = [("tenant", b"7")]
    for value in (b"a", b"b", b"c"):
        anywhere.send(topic, value, headers=headers)

    found = sent_headers(anywhere, topic, 3)
    assert headers == [("tenant", b"7")]
    assert [[name for name, _ in each] for each in found] == [["tenant", "traceparent", "otelp"]] * 3
    assert len({dict(each)["traceparent"] for each in found}) == 3


WRONG = {
    "a list as pair": [["a", b"1"]],
    "a text as value": [("a", "1")],
    "a number as value": [("a", 1)],
    "one of a pair": [("a",)],
    "three": [("a", b"1", b"2")],
    "bytes as name": [(b"a", b"1")],
    "no pairs": ["ab", "cd"],
    "nothing in it": [None],
    "a dictionary": {"a": b"1"},
    "a tuple": (("a", b"1"),),
    "a text": "abc",
    "a number": 5,
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_the_client_itself_says_what_is_wrong_with_headers(driver, instrument, headers):
    """The same error, or none, as without us: it is given the application's own pairs."""

    def outcome():
        try:
            driver.send(driver.topic("wrong"), b"a", headers=copy.deepcopy(headers))
        except Exception as error:
            return type(error), str(error)
        return None

    driver.send(driver.topic(), b"warm")
    bare = outcome()
    pipe = instrument()
    ours = outcome()

    assert ours == bare
    assert sum(pipe.status().errors.values()) == 0


# Nearly 1 MB: more than 1,000,000 bytes in a frame kafka-python 2.3 refuses by itself.
BAD = {
    "no text": [("traceparent", b"\xff\xfe\xfd")],
    "empty": [("traceparent", b"")],
    "huge": [("traceparent", b"x" * 900_000)],
    "two": [("traceparent", b"00-%032x-%016x-01" % (1, 1)), ("traceparent", b"00-%032x-%016x-01" % (2, 2))],
    "nothing": [("tracestate", b"," * 100_000), ("baggage", b" " * 100_000)],
    "ours": [("otelp", b"not base64 \xff"), ("otelp", b"A" * 40)],
    "many": [(f"h{at}", b"") for at in range(2_000)],
}


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
def test_bad_headers_lose_no_message(driver, instrument, telemetry, headers):
    """A message with any bytes in its headers is delivered, unchanged, and has a span of its own."""
    topic = driver.topic()
    driver.send(topic, b"a", headers=headers)
    driver.send(topic, b"b")
    pipe = instrument()
    reader = driver.reader(topic)
    found = []
    for message in reader.receive_many(2):
        with otel_pipeline.process(message, consumer=reader.client):
            found.append((driver.read(message, "value"), list(driver.read(message, "headers"))))
    reader.close()

    assert found == [(b"a", headers), (b"b", [])]
    assert len([span for span in telemetry.spans() if span.kind == "CONSUMER"]) >= 2
    assert not [place for place in pipe.status().errors if not place.startswith("header.")]


def test_a_context_that_the_application_set_is_left_alone(driver, instrument, telemetry):
    """Its own traceparent goes out as it is: the span is CLIENT and links to it."""
    topic = driver.topic()
    instrument()
    own = b"00-%032x-%016x-01" % (0xABC, 0xDEF)
    driver.send(topic, b"a", headers=[("traceparent", own)])

    (span,) = telemetry.spans()
    assert (span.kind, [link.trace_id for link in span.links]) == ("CLIENT", [f"{0xABC:032x}"])
    (headers,) = sent_headers(driver, topic)
    assert [value for name, value in headers if name == "traceparent"] == [own]


def test_a_forwarded_context_is_replaced(driver, instrument, telemetry):
    """A relay that copies the headers of the message in hand: the next hop is its child, not its sibling."""
    source, target = driver.topic(), driver.topic("next")
    instrument()
    driver.send(source, b"a", headers=[("tenant", b"7")])
    reader = driver.reader(source)

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            driver.send(target, b"x", headers=list(driver.read(message, "headers")))

    reader.loop(handle, 1)
    reader.close()

    (headers,) = sent_headers(driver, target)
    spans = [span for span in telemetry.spans() if span.kind != "CLIENT"]
    assert [name for name, _ in headers] == ["tenant", "traceparent", "otelp"]
    assert [span.attributes["otel_pipeline.hops"] for span in spans if span.kind == "CONSUMER"][:1] == [1]
    assert len({span.trace_id for span in spans}) == 1


def test_a_failed_send_is_on_the_span(driver, instrument, telemetry):
    """The application gets its own error, which is counted by its type."""
    topic = driver.topic()

    def outcome():
        with pytest.raises(Exception) as raised:
            driver.send(topic, object())
        return type(raised.value), str(raised.value).replace(hex(id(object)), "")[:20]

    bare = outcome()
    instrument()
    ours = outcome()

    kind = ours[0]
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    assert ours == bare
    if not driver.can.addressed:
        assert telemetry.spans() == []
        return
    (span,) = telemetry.spans()
    assert (span.name, span.status, span.attributes["error.type"]) == (f"{driver.send_word} {topic}", "ERROR", name)
    assert [
        (point.attributes["error.type"], point.value)
        for point in telemetry.metric("messaging.client.sent.messages").points
        if point.value
    ] == [(name, 1)]


def test_closed_clients_raise_their_own_errors(driver, instrument):
    """What the client raises is what the application sees, ours or not."""

    def outcomes():
        topic = driver.topic()
        driver.send(topic, b"a")
        reader = driver.reader(topic)
        reader.receive_one()
        reader.close()
        found = []
        for call in (reader.receive_one, reader.close, lambda: driver.send(topic, b"b")):
            try:
                call()
                found.append(None)
            except BaseException as error:
                found.append(type(error))
        return found

    bare = outcomes()
    instrument()

    assert outcomes() == bare


def test_hooks_get_span_and_message_and_may_fail(driver, instrument, telemetry):
    """A hook adds attributes; one that raises is counted and harms nothing."""
    topic = driver.topic()

    def send(span, message):
        span.set_attribute("app.size", len(message.value))

    def process(_span, message):
        raise ValueError(driver.read(message, "value"))

    pipe = instrument(hooks={"send": send, "process": process})
    driver.send(topic, b"abc")
    reader = driver.reader(topic)
    message = reader.receive_one()
    reader.close()
    with otel_pipeline.process(message):
        pass

    sizes = [span.attributes.get("app.size") for span in telemetry.spans() if span.kind == "PRODUCER"]
    assert (sizes, driver.read(message, "value"), set(pipe.status().errors)) == ([3], b"abc", {"hook.process"})


def test_nothing_of_ours_keeps_what_is_closed(driver, instrument):
    """Clients go when they are closed and dropped, messages when they are handled; our tables are empty then."""
    topic = driver.topic()
    pipe = instrument()
    driver.send_many(topic, [b"a", b"b", b"c"])
    reader = driver.reader(topic)
    seen = []

    def handle(message):
        seen.append(_reference(message))
        driver.send(driver.topic("next"), b"x")

    reader.loop(handle, 2)
    seen.append(_reference(reader.receive_one()))
    reader.commit()
    clients = [_reference(client) for client in driver.clients()]
    reader.close()
    driver.close_clients()
    del reader
    for _ in range(3):
        gc.collect()

    assert [each for each in clients if each is not None and each() is not None] == []
    assert [each for each in seen if each is not None and each() is not None] == []
    assert pipe._engine.consumers.all() == []


def _reference(found):
    """A tuple takes no weak reference, nor does a client of C: then nobody can tell."""
    try:
        return weakref.ref(found)
    except TypeError:
        return None


@pytest.mark.no_check
@pytest.mark.parametrize("place", ["send", "receive", "process", "finish", "sequence", "observe", "client"])
def test_a_failure_of_ours_is_not_the_applications(driver, instrument, monkeypatch, place):
    """Sent, received, processed, committed and closed as if we were not there; the failure is counted."""
    from otel_pipeline.engine import clients, pipeline_header, processor, send, totals

    owner, name = {
        "send": (send, "destination_of"),
        "receive": (clients.Consumer, "partition"),
        "process": (processor, "_values"),
        "finish": (totals.HistogramCell, "record"),
        "sequence": (pipeline_header, "tag_of"),
        "observe": (clients.PartitionState, "__init__"),
        "client": (clients.Consumer, "__init__"),
    }[place]
    topic = driver.topic()
    pipe = instrument()

    def fail(*_arguments, **_options):
        raise RuntimeError("of ours")

    monkeypatch.setattr(owner, name, fail)
    headers = [("tenant", b"7")]
    offsets = [driver.send(topic, value, headers=headers) for value in (b"a", b"b", b"c")]
    reader, seen = driver.reader(topic), []

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            seen.append((driver.read(message, "value"), driver.read(message, "headers")[0]))

    reader.loop(handle, 2)
    last = reader.receive_many(1)
    with otel_pipeline.process(last):
        pass
    reader.commit()
    reader.close()

    assert (offsets, headers) == ([0, 1, 2], [("tenant", b"7")])
    assert seen == [(b"a", ("tenant", b"7")), (b"b", ("tenant", b"7"))]
    assert driver.read(last[0], "value") == b"c"
    assert 0 < sum(pipe.status().errors.values()) <= OFF_AFTER

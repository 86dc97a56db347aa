"""`inject` and `extract`: one trace through anything that has headers, with the age of its data, and no harm."""

from __future__ import annotations

import asyncio
import queue
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import otel_pipeline
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.engine import Engine

NAMES = ("traceparent", "otelp")
AGES = ("otel_pipeline.hops", "otel_pipeline.origin.environment")


def points(telemetry, name):
    metric = telemetry.metric(name)
    return {next(iter(point.attributes.values())): point.value for point in metric.points} if metric else {}


def test_over_http(telemetry):
    """A request made in a process span, handled in a thread of a server: one trace, and what it rests on."""
    telemetry.instrument(environment="local")
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with otel_pipeline.extract(self.headers, destination="scores"), otel_pipeline.inference("churn"):
                seen.append(otel_pipeline.current())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with otel_pipeline.extract({}, destination="orders"):
            headers = otel_pipeline.inject({"Accept": "*/*"}, destination="scores")
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{server.server_port}", headers=headers))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert telemetry.tree(AGES, links=True) == (
        "process orders CONSUMER otel_pipeline.hops=1\n  process scores CONSUMER otel_pipeline.hops=2 -> process orders\n    predict churn INTERNAL"
    )
    assert [(each.destination, each.partition, each.offset, each.hops) for each in seen] == [("scores", None, None, 2)]


def test_over_a_queue_between_threads(telemetry):
    """What begins here is a create span; its data has an age from the moment it was sent on."""
    telemetry.instrument(environment="local")
    waiting = queue.Queue()

    def work():
        with otel_pipeline.extract(waiting.get(), destination="jobs"):
            waiting.task_done()

    thread = threading.Thread(target=work)
    thread.start()
    waiting.put(otel_pipeline.inject([("kind", b"x")], destination="jobs"))
    thread.join()

    assert telemetry.tree(AGES, links=True) == (
        "create jobs PRODUCER\n  process jobs CONSUMER otel_pipeline.hops=1 otel_pipeline.origin.environment=local -> create jobs"
    )
    assert points(telemetry, "messaging.client.consumed.messages") == {"jobs": 1}
    ages = telemetry.metric("otel_pipeline.data.age").points
    assert [(point.attributes, point.count) for point in ages] == [
        ({"messaging.destination.name": "jobs", "messaging.system.name": "_OTHER"}, 1)
    ]


def test_over_a_queue_between_tasks(telemetry):
    """Two tasks that wait at the same time each have their own message in hand."""
    telemetry.instrument()
    seen = []

    async def handle(waiting, name, both):
        async with otel_pipeline.extract(await waiting.get(), destination=name):
            await both.wait()
            seen.append(otel_pipeline.current().destination)
            otel_pipeline.inject(destination=f"after-{name}")

    async def run():
        waiting, both = asyncio.Queue(), asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else _Both()
        tasks = [asyncio.create_task(handle(waiting, name, both)) for name in ("a", "b")]
        for _ in tasks:
            await waiting.put(otel_pipeline.inject())
        await asyncio.gather(*tasks)

    asyncio.run(run())

    assert sorted(seen) == ["a", "b"]
    assert telemetry.tree() == (
        "create _other PRODUCER\n  process a CONSUMER\ncreate _other PRODUCER\n  process b CONSUMER"
    )


class _Both:
    """What `asyncio.Barrier` does in newer versions."""

    def __init__(self):
        self._count, self._all = 0, asyncio.Event()

    async def wait(self):
        self._count += 1
        if self._count == 2:
            self._all.set()
        await self._all.wait()


KINDS = {
    "nothing": (None, dict, str),
    "a mapping": ({"a": "1", "Traceparent": "old", "OtelP": "old"}, dict, str),
    "pairs": ([("a", b"1"), ("traceparent", b"old"), ("otelp", b"old")], list, bytes),
    "a tuple of pairs, as gRPC has them": ((("a", "1"),), list, bytes),
    "pairs with names in bytes, as ASGI has them": ([(b"a", b"1"), (b"Traceparent", b"old")], list, bytes),
}


@pytest.mark.parametrize("case", KINDS)
def test_headers_come_back_as_the_kind_that_was_given(telemetry, case):
    """A new one, with what the application put into it untouched and an older context replaced."""
    telemetry.instrument()
    headers, kind, text = KINDS[case]
    before = repr(headers)
    written = otel_pipeline.inject(headers)

    assert repr(headers) == before
    assert type(written) is kind
    found = list(written.items()) if kind is dict else written
    assert all(type(value) is text for name, value in found[-2:])
    names = [name if isinstance(name, str) else name.decode() for name, _ in found]
    assert names == [*(["a"] if headers else []), *NAMES]


def test_the_current_span_and_its_baggage_are_handed_on(telemetry):
    """Where the application has a span of its own, no other is made."""
    telemetry.instrument()
    with trace.get_tracer("app").start_as_current_span("request") as span:
        token = attach(baggage.set_baggage("tenant", "7"))
        written = otel_pipeline.inject(destination="orders")
        detach(token)

    assert written["traceparent"].split("-")[2] == f"{span.get_span_context().span_id:016x}"
    assert written["baggage"] == "tenant=7"
    with otel_pipeline.extract(written, destination="orders"):
        assert baggage.get_baggage("tenant") == "7"
    assert telemetry.tree() == "request INTERNAL\n  process orders CONSUMER"


def test_nothing_is_judged_of_order_pace_and_values(telemetry):
    """Although the header has a number: which partition it is of is not known."""
    pipe = telemetry.instrument()
    for number in (5, 3, 3, 900):
        header = pipeline_header.encode(
            flags=pipeline_header.PER_PARTITION,
            hops=1,
            environment="test",
            origin_ms=telemetry.start_ns // 1_000_000,
            newest_ms=telemetry.start_ns // 1_000_000,
            path=1,
            producer_id=7,
            sequence=number,
            tag=pipeline_header.tag_of("orders", 0),
        )
        with otel_pipeline.extract([("otelp", header)], destination="orders"):
            pass

    (flow,) = pipe.health().flows
    assert {name: (light.state, light.why) for name, light in flow.lights.items() if name in ("order", "pace")} == {
        "order": ("grey", "4 messages were read by extract(): their place in the log is not known"),
        "pace": ("grey", "4 messages were read by extract(): their place in the log is not known"),
    }
    assert flow.lights["contract"].state == "grey"
    # No zero without evidence.
    without = ("order.violations", "messages.missing", "commit.ahead", "consumer.offset", "contract.checked")
    assert [name for name in without if telemetry.metric(f"otel_pipeline.{name}")] == []
    coverage = telemetry.metric("otel_pipeline.header.coverage").points
    assert {point.attributes["otel_pipeline.header_state"]: point.value for point in coverage} == {
        "ok": 4,
        "missing": 0,
        "unreadable": 0,
    }


def test_a_message_that_an_adapter_has_in_hand_has_one_span(telemetry):
    """Code that calls `extract` need not be changed when its client becomes supported."""
    telemetry.instrument()
    headers = otel_pipeline.inject([], destination="orders")
    with otel_pipeline.extract(headers, destination="orders"):
        with pytest.raises(ValueError, match="bad"), otel_pipeline.extract(headers, destination="orders"):
            raise ValueError("bad")
        with otel_pipeline.extract(otel_pipeline.inject(), destination="other"):
            pass

    assert telemetry.tree() == ("create orders PRODUCER\n  process orders CONSUMER ERROR\n    process other CONSUMER")


def test_what_the_block_raises_is_recorded_and_raised_on(telemetry):
    """The same object."""
    telemetry.instrument()
    error = KeyError("order")
    with pytest.raises(KeyError) as raised, otel_pipeline.extract({}, destination="orders"):
        raise error

    assert raised.value is error
    assert [(span.status, span.attributes["error.type"]) for span in telemetry.spans()] == [("ERROR", "KeyError")]


def test_unsampled(telemetry):
    """The flag is handed on, the message is counted, no span is made."""
    telemetry.instrument()
    telemetry.sample(ALWAYS_OFF)
    written = otel_pipeline.inject(destination="orders")
    with otel_pipeline.extract(written, destination="orders"):
        pass

    assert written["traceparent"].endswith("-00")
    assert telemetry.spans() == []
    assert points(telemetry, "messaging.client.consumed.messages") == {"orders": 1}


def test_many_threads_lose_no_message(telemetry):
    """An observer is one thread's at a time; here it is any's."""
    telemetry.instrument()
    telemetry.sample(ALWAYS_OFF)
    headers = otel_pipeline.inject(destination="orders")

    def work():
        for _ in range(300):
            with otel_pipeline.extract(headers, destination="orders"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert points(telemetry, "messaging.client.consumed.messages") == {"orders": 2400}
    coverage = telemetry.metric("otel_pipeline.header.coverage").points
    assert max(point.value for point in coverage) == 2400
    assert sum(point.count for point in telemetry.metric("otel_pipeline.data.age").points) == 2400


def test_where_nothing_is_to_be_recorded(telemetry):
    """Excluded, suppressed, not instrumented: a plain copy, and the block runs."""
    headers = {"a": "1"}
    found = [otel_pipeline.inject(headers)]
    telemetry.instrument(config_file=None)
    with suppress_instrumentation():
        found.append(otel_pipeline.inject(headers))
        with otel_pipeline.extract({}):
            pass
    found.append(otel_pipeline.inject(headers, destination="__internal"))
    with otel_pipeline.extract({}, destination="__internal"):
        assert otel_pipeline.current() is None

    assert found == [headers] * 3
    assert all(each is not headers for each in found)
    assert telemetry.spans() == []


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.binary(max_size=70),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=12), inner, max_size=4)
        | st.tuples(st.sampled_from(["traceparent", "OTELP", b"otelp", "baggage", 3]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=ANYTHING, destination=st.none() | st.text(max_size=10))
def test_whatever_the_headers_are(telemetry, headers, destination):
    """Nothing is raised, nothing of the application's is changed, and the block runs once."""
    telemetry.instrument(environment="local")
    before, runs = repr(headers), 0
    otel_pipeline.inject(headers, destination=destination)
    with otel_pipeline.extract(headers, destination=destination):
        runs += 1

    assert (repr(headers), runs) == (before, 1)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_failure_of_ours_is_counted_and_the_place_switches_itself_off(telemetry, monkeypatch):
    """The block runs, the headers come back as they are."""
    pipe = telemetry.instrument()

    def fail(*_arguments):
        raise RuntimeError("ours")

    monkeypatch.setattr(Engine, "suppressed", fail)
    for _ in range(101):
        assert otel_pipeline.inject({"a": "1"}) == {"a": "1"}
        with otel_pipeline.extract({}):
            pass

    assert {place: count for place, count in pipe.status().errors.items() if place in ("inject", "extract")} == {
        "inject": 100,
        "extract": 100,
    }

"""What is handed to a pool while a message is in hand keeps its trace and its age, and leaves nothing in the thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from opentelemetry import trace
from opentelemetry.context import attach, get_current, set_value
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

import otel_pipeline
from otel_pipeline.engine import inference, pools
from otel_pipeline.engine.delivery import in_hand
from otel_pipeline.engine.model_methods import ModelMethods


def score(number):
    with otel_pipeline.inference("churn"):
        return number, otel_pipeline.current().destination


ONCE = "create orders PRODUCER\n  process orders CONSUMER\n    predict churn INTERNAL"
TWICE = ONCE + "\n    predict churn INTERNAL"


def ages(telemetry):
    return [(span.name, "otel_pipeline.data.age" in span.attributes) for span in telemetry.spans()]


@pytest.fixture
def headers(telemetry):
    """Of a message, whose data began in a service that is instrumented."""
    telemetry.instrument()
    return otel_pipeline.inject(destination="orders")


SHAPES = {
    "submit": lambda pool, work: [future.result() for future in [pool.submit(work, 1), pool.submit(work, number=2)]],
    "map": lambda pool, work: list(pool.map(work, [1, 2])),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_in_a_pool(telemetry, headers, shape):
    """One trace, with age; they are decisions on that message."""
    with ThreadPoolExecutor(2) as pool, otel_pipeline.extract(headers, destination="orders"):
        assert SHAPES[shape](pool, score) == [(1, "orders"), (2, "orders")]

    assert telemetry.tree() == TWICE
    assert ages(telemetry)[1:] == [("predict churn", True), ("predict churn", True), ("process orders", True)]
    (point,) = telemetry.metric("otel_pipeline.decision.age").points
    assert (point.attributes["messaging.destination.name"], point.count) == ("orders", 2)


def test_asyncio_in_an_executor(telemetry, headers):
    """`run_in_executor` as well as `to_thread`."""

    async def handle():
        async with otel_pipeline.extract(headers, destination="orders"):
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(1) as pool:
                return [await loop.run_in_executor(pool, score, 1), await asyncio.to_thread(score, 2)]

    assert asyncio.run(handle()) == [(1, "orders"), (2, "orders")]
    assert telemetry.tree() == TWICE


def test_nothing_stays_with_the_thread(telemetry, headers):
    """Whatever the function leaves behind; outside of a delivery the pool is what it was."""
    inside, seen = set_value("left", "behind"), []

    def leave():
        attach(inside)
        raise KeyError("x")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(attach, set_value("of the thread", 1)).result()
        with otel_pipeline.extract(headers, destination="orders"), pytest.raises(KeyError):
            pool.submit(leave).result()
        seen.append(pool.submit(get_current).result())

    assert [dict(context) for context in seen] == [{"of the thread": 1}]


def test_what_goes_on_when_the_message_is_done(telemetry, headers):
    """It is still that message's."""
    done = threading.Event()

    def late():
        done.wait(20)
        with otel_pipeline.inference("churn"):
            pass

    with ThreadPoolExecutor(1) as pool:
        with otel_pipeline.extract(headers, destination="orders"):
            future = pool.submit(late)
        done.set()
        future.result()

    assert telemetry.tree() == ONCE
    assert ages(telemetry)[-1] == ("predict churn", True)


def test_what_is_no_function_is_refused_as_before(telemetry, headers):
    """The pool's own words, at the same place: in the future."""
    with ThreadPoolExecutor(1) as pool:
        plain = pool.submit(3).exception()
        with otel_pipeline.extract(headers, destination="orders"):
            inside = pool.submit(3).exception()
            with pytest.raises(TypeError):
                pool.submit()

    assert repr(inside) == repr(plain)


@pytest.mark.parametrize("disable", [["threading"], ["*"]])
def test_it_can_be_switched_off(telemetry, disable):
    """By the name of OpenTelemetry's own instrumentation; and `uninstrument()` puts the method back."""
    original = ThreadPoolExecutor.submit
    telemetry.instrument(disable=disable)
    assert ThreadPoolExecutor.submit is original


def test_a_failure_of_ours_is_not_the_applications(telemetry, monkeypatch):
    """The work is done all the same, and after a hundred the place is off."""
    pipe = telemetry.instrument()
    monkeypatch.setattr(pools, "get_current", lambda: 1 / 0)
    with ThreadPoolExecutor(1) as pool:
        done = [pool.submit(str, at).result() for at in range(102)]

    assert done == [str(at) for at in range(102)]
    assert pipe.status().errors == {"pool": 100}


def test_it_is_put_back(telemetry):
    """The same function."""
    original = ThreadPoolExecutor.submit
    pipe = telemetry.instrument()
    during = ThreadPoolExecutor.submit
    pipe.uninstrument()

    assert during is not original
    assert ThreadPoolExecutor.submit is original
    assert (in_hand(), trace.get_current_span()) == (None, trace.INVALID_SPAN)


def in_another_process(captured):
    """What is said there of the data that was captured here."""
    with otel_pipeline.flow.joined(captured) as joined:
        return joined.origin


def test_another_process_has_what_was_captured(telemetry):
    """It is handed over as it is: the same origin, of the same inputs."""
    telemetry.instrument()
    with otel_pipeline.extract(otel_pipeline.inject(), destination="orders"):
        captured = otel_pipeline.flow.capture()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            there = pool.submit(in_another_process, captured).result()

    assert (there, captured.origin.origin_ms > 0) == (captured.origin, True)


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_ON), ParentBased(ALWAYS_OFF)], ids=["recorded", "not recorded"])
def test_what_a_model_hands_to_a_pool_is_no_call_of_its_own(telemetry, sampler):
    """Whatever is recorded: the call that waits for it is one."""
    telemetry.sample(sampler)
    pipe = telemetry.instrument()
    methods = ModelMethods(inference._inferences, pipe._guard, "ours", "ours")

    class Trees:
        pass

    def predict(_self, numbers):
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(Trees().one, numbers))

    Trees.predict = methods.around("predict", lambda *_all: None, predict)
    Trees.one = methods.around("predict", lambda *_all: None, lambda _self, number: number)
    with otel_pipeline.extract(otel_pipeline.inject(), destination="orders"):
        Trees().predict([1, 2, 3])

    assert [point.count for point in telemetry.metric("otel_pipeline.inference.duration").points] == [1]

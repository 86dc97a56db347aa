"""An exception at each line of ours behind what the application calls by name, and behind what is patched around it.

Its functions run once, with their own results and exceptions, and afterwards its own context is current.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.context import attach, get_current, set_value

import otel_pipeline
from otel_pipeline import flow
from otel_pipeline.engine import carrier
from otel_pipeline.engine import guard as guards
from otel_pipeline.engine.framework import processing
from otel_pipeline.engine.pipeline_propagator import PipelinePropagator
from otel_pipeline.export.generative import ObservedTracers
from tests.contract.injection import Injection
from tests.contract.test_injected import fail, is_uncounted

EVERY = bool(os.environ.get("EVERY_LINE"))
OF_EACH_ACT = 8
DECORATES = {"process", "inference", "require_fresh", "extract"}
HEADERS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "baggage": "tenant=7",
    "otelp": "AQgBBgGLaOVoFgAAAAC6_vJDVNUAAAABU____490",
}


class TheirError(Exception):
    """What the application raises."""


def caught(call, *arguments):
    """What a call of the application's gave: its result, or its exception."""
    try:
        return call(*arguments)
    except TheirError as error:
        return repr(error)


def twice(call):
    return [caught(call, value) for value in (1, 0)]


def theirs(value):
    if not value:
        raise TheirError
    return value


def awaited(coroutine):
    """What it gives. It runs without a loop, in the context of who calls: none of these waits for anything."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


TWICE = [1, "TheirError()"]
BLOCKS = {"block": TWICE, "awaited block": TWICE}
DECORATED = {
    "plain": TWICE,
    "coroutine": TWICE,
    "generator": [[7, 1], "TheirError()"],
    "stream": [[7, 1], "TheirError()"],
    "left": 7,
}


def blocks(around):
    def block(value):
        with around():
            return theirs(value)

    async def later(value):
        async with around():
            return theirs(value)

    return {"block": lambda: twice(block), "awaited block": lambda: twice(lambda value: awaited(later(value)))}


def decorated(decorate, *given):
    """Functions of all kinds, with this among their arguments."""

    @decorate
    def plain(value, *_given):
        return theirs(value)

    @decorate
    async def coroutine(value, *_given):
        return theirs(value)

    @decorate
    def generator(*_given):
        yield theirs((yield 7))

    @decorate
    async def stream(*_given):
        yield theirs((yield 7))

    def generated(value):
        running = generator(*given)
        return [next(running), running.send(value)]

    async def streamed(value):
        running = stream(*given)
        return [await anext(running), await running.asend(value)]

    def left():
        running = generator(*given)
        first = next(running)
        running.close()
        return first

    return {
        "plain": lambda: twice(lambda value: plain(value, *given)),
        "coroutine": lambda: twice(lambda value: awaited(coroutine(value, *given))),
        "generator": lambda: twice(generated),
        "stream": lambda: twice(lambda value: awaited(streamed(value))),
        "left": left,
    }


def inside(act):
    """What the application does with a message in hand."""
    with otel_pipeline.extract(HEADERS, destination="orders"):
        return act()


def injected(headers):
    found = otel_pipeline.inject(headers, destination="scores")
    return type(found), {name: value for name, value in dict(found).items() if name == "tenant"}, dict(headers)


def in_a_flow():
    kept = [flow.capture(), flow.capture()]

    def joined(value):
        with flow.joined(*kept):
            flow.input("features", age_s=3.0)
            return theirs(value)

    flow.input("cache")
    return [*twice(joined), [type(each).__name__ for each in kept]]


FLOW = [*TWICE, ["Captured", "Captured"]]


def in_a_pool():
    with ThreadPoolExecutor(1) as pool:
        return [
            *twice(lambda value: pool.submit(theirs, value).result()),
            list(pool.map(theirs, [1])),
            pool.submit(get_current).result() is not None,
        ]


class Framework:
    def handle(self, message, value):
        return theirs(value)

    async def handle_later(self, message, value):
        return theirs(value)


def other_calls(tracer):
    def whole(value):
        with tracer.start_as_current_span("chat m"):
            return theirs(value)

    def begun(value):
        span = tracer.start_span("chat m", attributes={"gen_ai.request.model": "m"})
        try:
            return theirs(value)
        finally:
            span.end()

    return [*twice(whole), *twice(begun)]


def models():
    """A model of the application's, made while it is instrumented."""
    base = pytest.importorskip("sklearn.base")

    class Constant(base.ClassifierMixin, base.BaseEstimator):
        def fit(self, rows, value=1):
            theirs(value)
            return self

        def predict(self, rows):
            return [theirs(value) for value in rows]

    return Constant


def in_a_process_of_others():
    """What other instrumentations call."""
    carried = {"a": "b"}
    propagator = PipelinePropagator()
    propagator.inject(carried)
    return carried["a"], propagator.extract(HEADERS) is not None


def doors(pipe, message, tracer, model):
    """{name: (what is done, what it gives)}."""
    framework, handler = Framework(), otel_pipeline.process(lambda given: given.body)
    found = {
        "a handler": (lambda: handler(message), message.body),
        "inject a dict": (lambda: injected({"tenant": "7"}), (dict, {"tenant": "7"}, {"tenant": "7"})),
        "inject pairs": (lambda: injected([("tenant", b"7")]), (list, {"tenant": b"7"}, {"tenant": b"7"})),
        "inject inside": (lambda: inside(lambda: injected({"tenant": "7"})), (dict, {"tenant": "7"}, {"tenant": "7"})),
        "current": (lambda: inside(lambda: type(otel_pipeline.current()).__name__ in ("Delivery", "NoneType")), True),
        "current outside": (otel_pipeline.current, None),
        "flow": (lambda: inside(in_a_flow), FLOW),
        "flow outside": (in_a_flow, FLOW),
        "a pool": (lambda: inside(in_a_pool), [*TWICE, [1], True]),
        "a framework": (lambda: twice(lambda value: framework.handle(message, value)), TWICE),
        "a framework, later": (lambda: twice(lambda value: awaited(framework.handle_later(message, value))), TWICE),
        "others' model calls": (lambda: inside(lambda: other_calls(tracer)), TWICE * 2),
        "others' propagation": (in_a_process_of_others, ("b", True)),
        "a model": (lambda: inside(lambda: twice(lambda value: model().predict([value])[0])), TWICE),
        "training": (
            lambda: inside(lambda: twice(lambda value: model().fit([], value) is not None)),
            [True, "TheirError()"],
        ),
        "a model's class": (lambda: models().__name__, "Constant"),
    }
    for name, around in {
        "extract": lambda: otel_pipeline.extract(HEADERS, destination="orders"),
        "inference": lambda: otel_pipeline.inference("churn", version="3", rows=2),
        "process": lambda: otel_pipeline.process(message),
        "process a batch": lambda: otel_pipeline.process([message]),
        "require_fresh": lambda: otel_pipeline.require_fresh(1e9),
    }.items():
        found |= {f"{name}, {way}": (act, BLOCKS[way]) for way, act in blocks(around).items()}
    for name, decorate, *given in (
        ("inference", otel_pipeline.inference("churn")),
        ("process", otel_pipeline.process, message),
        ("require_fresh", otel_pipeline.require_fresh(1e9)),
    ):
        found |= {f"{name}, {way}": (act, DECORATED[way]) for way, act in decorated(decorate, *given).items()}
    return found


class Application:
    """An application with a context of its own."""

    def __init__(self, pipe, injection):
        self.pipe, self.injection = pipe, injection
        self.own = set_value("of the application", 7)
        self.tried = set()

    def tries(self, name, act, wanted):
        """What is wrong with what is done, whatever line of ours raises; no line is tried twice."""
        lines, wrong = {}, []
        for _ in range(2):
            wrong += self.does(name, act, wanted, None)
            lines |= self.injection.seen
        ways = [way for way in lines if way not in self.tried and way[-1][2] not in DECORATES]
        if name.startswith("others'"):  # Who calls a span itself calls what is the SDK's.
            ways = [way for way in ways if way[0][0] != "export/recorded_span.py"]
        self.tried.update(ways)
        if not EVERY and len(ways) > OF_EACH_ACT:
            ways = random.Random(name).sample(ways, OF_EACH_ACT)
        for way in ways:
            wrong += self.does(name, act, wanted, way)
        return wrong

    def does(self, name, act, wanted, way):
        """What is wrong when an exception of ours is raised there, or none."""
        attach(self.own)
        if name.endswith("first"):
            carrier._carrier = None  # What happens at its first use happens again.
        counted = sum(self.pipe._guard.errors.values())
        try:
            with self.injection.at(way, fail if way else None):
                got = act()
        except Exception as error:
            got = repr(error)
        wrong = []
        if got != wanted:
            wrong.append((name, way and way[:2], got))
        if get_current() is not self.own:
            wrong.append((name, way and way[:2], "what is current", str(trace.get_current_span())))
        silent = way and self.injection.hit and sum(self.pipe._guard.errors.values()) == counted
        if silent and not is_uncounted(*way[0]):
            wrong.append((name, way[:2], "not counted"))
        return wrong


@pytest.fixture
def application(telemetry, monkeypatch):
    monkeypatch.setattr(guards, "OFF_AFTER", 1_000_000)  # No place is switched off: each line is to be tried.
    telemetry.as_in_production()
    pipe = telemetry.instrument(libraries=["in-memory-broker", "scikit-learn"])
    with Injection().in_place() as injection:
        yield Application(pipe, injection)


@pytest.fixture
def opened(application, telemetry):
    """All doors of an application that has a message in hand."""
    from tests.contract.drivers.in_memory import InMemory  # It is on the path while tests run.

    pipe, driver = application.pipe, InMemory(SimpleNamespace(topic=lambda name: name))
    for value in (b"a", b"b"):
        driver.send("orders", value)
    reader = driver.reader("orders")
    message, _ = reader.receive_one(), reader.receive_one()
    attach(application.own)
    for name in ("handle", "handle_later"):
        pipe._patches.replace(Framework, name, processing(pipe._engine, lambda _self, given, _value: given))
    tracers = ObservedTracers(lambda: telemetry.tracer_provider, pipe._official._tracers._observed)
    yield doors(pipe, message, trace.get_tracer("others", tracer_provider=tracers), models())
    driver.close()


@pytest.mark.no_check
@pytest.mark.xdist_group("injected")
def test_an_exception_at_any_line_is_ours_alone(application, opened):
    wrong = []
    for name, (act, wanted) in opened.items():
        for when in ("first", "again"):
            wrong += application.tries(f"{name}, {when}", act, wanted)
    assert wrong == []


@pytest.mark.no_check
@pytest.mark.parametrize(
    ("name", "place"),
    {
        "a model": "sklearn",
        "current": "current",
        "extract, block": "extract",
        "flow outside": "flow",
        "inject a dict": "inject",
        "others' propagation": "propagator",
        "process, plain": "process()",
        "require_fresh, block": "require_fresh",
    }.items(),
)
def test_a_door_that_keeps_failing_is_switched_off(application, opened, monkeypatch, name, place):
    """What fails there is tried so often, and no more; the application goes on all the while."""
    monkeypatch.setattr(guards, "OFF_AFTER", 3)
    (act, wanted), pipe, wrong = opened[name], application.pipe, []
    application.does(name, act, wanted, None)
    lines = [way for way in application.injection.seen if way[-1][2] not in DECORATES]
    before = dict(pipe._guard.errors)
    for way in lines:
        wrong += application.does(name, act, wanted, way)
        if pipe._guard.errors.get(place, 0) == before.get(place, 0) + 3:
            break
    switched_off = [said for said in pipe.status().problems if said.startswith(f"{place} failed 3 times")]

    assert (wrong, len(switched_off), pipe._guard.place(place).off) == ([], 1, True)
    assert application.does(name, act, wanted, None) == []

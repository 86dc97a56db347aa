"""Model calls: every kind of function, errors, what is counted, what is current."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

import otel_pipeline
from otel_pipeline.engine import inference


def current():
    return getattr(trace.get_current_span(), "name", None)


def test_a_model_call_is_a_span_with_rows_and_version(telemetry):
    """What is known before, and what is set inside."""
    telemetry.instrument(environment="staging")
    with otel_pipeline.inference("churn-v3", library="torch", device="cpu", operation="run") as call:
        call.rows = 3
        call.version = "7"
        call.set_attribute("app.tenant", "x")

    (span,) = telemetry.spans()
    assert (span.name, span.kind, span.attributes) == (
        "predict churn-v3",
        "INTERNAL",
        {
            "app.tenant": "x",
            "otel_pipeline.inference.device": "cpu",
            "otel_pipeline.inference.operation": "run",
            "otel_pipeline.inference.rows": 3,
            "otel_pipeline.model.library": "torch",
            "otel_pipeline.model.name": "churn-v3",
            "otel_pipeline.model.version": "7",
        },
    )


def test_every_kind_of_function_can_be_decorated(telemetry):
    """The span is current inside only; a bare decorator takes the function's name."""
    telemetry.instrument()
    seen = []

    @otel_pipeline.inference
    def plain():
        seen.append(current())

    @otel_pipeline.inference("coroutine")
    async def coroutine():
        await asyncio.sleep(0)
        seen.append(current())

    @otel_pipeline.inference("generator")
    def generator():
        got = yield current()
        seen.append((got, current()))
        return "end"

    @otel_pipeline.inference("asynchronous")
    async def asynchronous():
        yield current()
        seen.append(current())

    async def drain():
        return [(item, current()) async for item in asynchronous()]

    plain()
    asyncio.run(coroutine())
    driven = generator()
    first = (next(driven), current())
    with pytest.raises(StopIteration, match="end"):
        driven.send("sent")

    assert (first, asyncio.run(drain())) == (("predict generator", None), [("predict asynchronous", None)])
    assert seen == ["predict plain", "predict coroutine", ("sent", "predict generator"), "predict asynchronous"]
    assert (plain.__name__, asyncio.iscoroutinefunction(coroutine)) == ("plain", True)


def test_a_generator_that_is_closed_early_is_no_error(telemetry):
    """Closing ends the span; an exception thrown in reaches the generator and is recorded when it leaves."""
    telemetry.instrument()

    @otel_pipeline.inference("closed")
    def items():
        yield 1
        yield 2

    @otel_pipeline.inference("thrown")
    def caught():
        try:
            yield 1
        except KeyError:
            yield "caught"

    driven = items()
    next(driven)
    driven.close()
    other = caught()
    next(other)
    assert other.throw(KeyError("x")) == "caught"
    other.close()

    assert [(span.name, span.status) for span in telemetry.spans()] == [
        ("predict closed", "UNSET"),
        ("predict thrown", "UNSET"),
    ]


def test_errors_are_recorded_and_raised_on(telemetry):
    """Status, type and the exception; the metric has the error type, and only then."""
    telemetry.instrument()
    error = RuntimeError("no model")
    with pytest.raises(RuntimeError) as raised, otel_pipeline.inference("churn"):
        raise error
    with otel_pipeline.inference("churn"):
        pass

    (failed, _) = telemetry.spans()
    assert (raised.value is error, failed.status, failed.status_message) == (True, "ERROR", "no model")
    assert [event.attributes["exception.type"] for event in failed.events] == ["RuntimeError"]
    points = telemetry.metric("otel_pipeline.inference.duration").points
    assert sorted((point.attributes.get("error.type", ""), point.count) for point in points) == [
        ("", 1),
        ("RuntimeError", 1),
    ]


def test_calls_are_counted_whatever_is_sampled(telemetry):
    """Rows and durations of calls without a recorded span."""
    telemetry.sample(ParentBased(ALWAYS_OFF))
    telemetry.instrument()
    for _ in range(3):
        with otel_pipeline.inference("churn", rows=5):
            pass

    assert telemetry.spans() == []
    assert [point.value for point in telemetry.metric("otel_pipeline.inference.rows").points] == [15]


def by_version(telemetry, name):
    metric = telemetry.metric(name)
    return {
        point.attributes.get("otel_pipeline.model.version"): getattr(point, "count", None) or point.value
        for point in (metric.points if metric else ())
    }


def test_a_failed_call_is_no_decision(telemetry):
    """Nothing was decided; its duration is counted as that of an error."""
    telemetry.instrument()
    with otel_pipeline.extract(otel_pipeline.inject(), destination="orders"):
        with pytest.raises(RuntimeError), otel_pipeline.inference("churn"):
            raise RuntimeError
        assert telemetry.metric("otel_pipeline.decision.age") is None
        with otel_pipeline.inference("churn"):
            pass

    assert by_version(telemetry, "otel_pipeline.decision.age") == {None: 1}


def test_the_age_of_a_decision_is_that_at_its_end(telemetry):
    """The data has aged while the model worked, and what the application has added by then counts."""
    telemetry.instrument()
    inferences, told, elapsed_s = inference._inferences, [], iter((0, 5, 0, 1))
    inferences.monotonic_ns = lambda: next(elapsed_s) * 10**9

    class Told:
        is_plain = False

        def decided(self, _delivery, origins_ms, now_ns, _span):
            told.extend(round(now_ns / 1e9 - origin_ms / 1e3) for origin_ms in origins_ms)

    inferences.decisions = lambda _model, _version: Told()
    with otel_pipeline.extract(otel_pipeline.inject(), destination="orders"):
        with otel_pipeline.inference("churn"):
            pass
        with otel_pipeline.inference("churn"):
            otel_pipeline.flow.input("features", event_time=telemetry.start_ns / 1e9 - 900)

    assert told == [5, 901]


def test_a_canary_and_what_it_is_compared_with(telemetry):
    """The version is on each metric of the model, whether it was known before the call or inside."""
    telemetry.instrument()
    with otel_pipeline.extract(otel_pipeline.inject(), destination="orders"):
        with otel_pipeline.inference("churn", version="7", rows=2):
            pass
        with otel_pipeline.inference("churn", rows=3) as call:
            call.version = "8"
        with otel_pipeline.inference("churn", rows=4):
            pass

    assert by_version(telemetry, "otel_pipeline.decision.age") == {"7": 1, "8": 1, None: 1}
    assert by_version(telemetry, "otel_pipeline.inference.duration") == {"7": 1, "8": 1, None: 1}
    assert by_version(telemetry, "otel_pipeline.inference.rows") == {"7": 2, "8": 3, None: 4}


def test_model_names_are_bounded(telemetry):
    """The first hundred by name, the rest together, said once."""
    pipe = telemetry.instrument()
    for number in range(120):
        with otel_pipeline.inference(f"model-{number}"):
            pass

    points = telemetry.metric("otel_pipeline.inference.duration").points
    counts = {point.attributes["otel_pipeline.model.name"]: point.count for point in points}
    assert (len(counts), counts["_other"]) == (101, 20)
    assert len([problem for problem in pipe.status().problems if "model names" in problem]) == 1


def test_suppressed_calls_are_not_recorded(telemetry):
    """Inside `suppress_instrumentation()` a call is nothing."""
    telemetry.instrument()
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    with otel_pipeline.inference("churn", rows=1):
        pass
    detach(token)

    assert (telemetry.spans(), telemetry.metrics()) == ([], [])


def test_a_hook_that_raises_harms_nothing(telemetry):
    """It is counted."""

    def hook(_span, _call):
        raise ValueError

    pipe = telemetry.instrument(hooks={"inference": hook})
    with otel_pipeline.inference("churn"):
        pass

    assert ([span.name for span in telemetry.spans()], pipe.status().errors) == (
        ["predict churn"],
        {"hook.inference": 1},
    )

"""What stands around a model's method, with a model of ours: recorded or not, nested, failing, in batches."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka.consumer.fetcher import ConsumerRecord
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, get_current, set_value
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

import otel_pipeline
from otel_pipeline import flow
from otel_pipeline.detectors.decisions import Decisions
from otel_pipeline.detectors.objectives import Objectives
from otel_pipeline.detectors.settings import Objective
from otel_pipeline.engine import inference
from otel_pipeline.engine.model_methods import ModelMethods
from otel_pipeline.engine.prepared import inside

AGE, DURATION, ROWS = "otel_pipeline.decision.age", "otel_pipeline.inference.duration", "otel_pipeline.inference.rows"
SAMPLERS = {"recorded": ParentBased(ALWAYS_ON), "not recorded": ParentBased(ALWAYS_OFF)}


class Scorer:
    """Predicts by another method of its own."""

    def predict(self, data):
        return [self.score(each) for each in data]

    def score(self, each):
        if each == "bad":
            raise ValueError(each)
        return 2 * each


def rows_of(args, _kwargs):
    return len(args[0])


@pytest.fixture(params=SAMPLERS)
def pipe(telemetry, request):
    """Instrumented, with the samplers that matter."""
    telemetry.sample(SAMPLERS[request.param])
    made = telemetry.instrument()
    made.recorded = request.param == "recorded"
    return made


@pytest.fixture
def scorer(pipe):
    """An object of a patched class."""
    methods = ModelMethods(inference._inferences, pipe._guard, "ours", "ours")

    class Patched(Scorer):
        predict = methods.around("predict", rows_of, Scorer.predict)
        score = methods.around("score", lambda _args, _kwargs: 1, Scorer.score)

    return Patched()


def received():
    """A message in hand."""
    return otel_pipeline.extract(otel_pipeline.inject(), destination="orders")


def counted(telemetry, name):
    """Counts by model, and by error."""
    metric, found = telemetry.metric(name), {}
    for point in metric.points if metric else ():
        key = point.attributes["otel_pipeline.model.name"], point.attributes.get("error.type")
        found[key] = found.get(key, 0) + (getattr(point, "count", None) or point.value)
    return found


def test_only_the_outermost_call_counts(telemetry, pipe, scorer):
    """Once, with its rows, with the age of what is in hand, whether or not it is recorded."""
    with received():
        found = scorer.predict([1, 2, 3])

    spans = [span for span in telemetry.spans() if span.name.startswith("predict")]
    assert (found, inside.model) == ([2, 4, 6], None)
    assert [counted(telemetry, name) for name in (DURATION, ROWS, AGE)] == [
        {("Patched", None): 1},
        {("Patched", None): 3},
        {("Patched", None): 1},
    ]
    assert [span.attributes["otel_pipeline.inference.rows"] for span in spans] == ([3] if pipe.recorded else [])
    assert all("otel_pipeline.data.age" in span.attributes for span in spans)


def test_a_call_that_fails(telemetry, scorer):
    """Its exception is the application's own; it is no decision, and the next call counts."""
    with received():
        with pytest.raises(ValueError, match="bad"):
            scorer.predict(["bad"])
        scorer.score(1)

    assert (counted(telemetry, DURATION), counted(telemetry, AGE)) == (
        {("Patched", "ValueError"): 1, ("Patched", None): 1},
        {("Patched", None): 1},
    )


@pytest.mark.parametrize("around", ["nothing", "a block", "what is suppressed", "something on top"])
def test_where_it_is_called(telemetry, pipe, scorer, around):
    """Outside of a message too; not in another model call, nor where nothing is to be recorded."""
    before = get_current()
    if around == "a block":
        with received(), otel_pipeline.inference("outer"):
            scorer.predict([1])
    elif around == "what is suppressed":
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        scorer.predict([1])
        attach(before)
    elif around == "something on top":
        with received():
            inner = get_current()
            attach(set_value("theirs", 1))
            scorer.predict([1])
            attach(inner)
    else:
        scorer.predict([1])

    expected = {"nothing": {"Patched": 1}, "a block": {"outer": 1}, "something on top": {"Patched": 1}}
    assert {model: times for (model, _), times in counted(telemetry, DURATION).items()} == expected.get(around, {})


def test_a_sampler_that_asks_no_parent_is_asked(telemetry):
    """A call below a message that is not recorded may be recorded."""
    telemetry.sample(TraceIdRatioBased(1.0))
    pipe = telemetry.instrument()
    methods = ModelMethods(inference._inferences, pipe._guard, "ours", "ours")
    model = type("Model", (Scorer,), {"predict": methods.around("predict", rows_of, Scorer.predict)})()
    with otel_pipeline.extract({"traceparent": f"00-{1:032x}-{2:016x}-00"}, destination="orders"):
        model.predict([1])

    assert "predict Model" in [span.name for span in telemetry.spans()]


def test_its_name_may_be_given_before_or_later(telemetry, scorer):
    """From then on it is called so."""
    with received():
        scorer.score(1)
        otel_pipeline.model(scorer, "churn", version="7")
        scorer.score(1)
        scorer.predict([1])

    metric = telemetry.metric(AGE)
    found = {
        (point.attributes["otel_pipeline.model.name"], point.attributes.get("otel_pipeline.model.version")): point.count
        for point in metric.points
    }
    assert found == {("Patched", None): 1, ("churn", "7"): 2}


def records(telemetry, *ages_s):
    """Messages of kafka-python, sent so long ago."""
    plain = ConsumerRecord(
        **{**dict.fromkeys(ConsumerRecord._fields), "topic": "orders", "partition": 0, "headers": []}
    )
    now_ms = telemetry.start_ns // 1_000_000
    return [
        plain._replace(offset=at, value=b"x", timestamp=now_ms - int(age_s * 1000), timestamp_type=0)
        for at, age_s in enumerate(ages_s)
    ]


def buckets(telemetry):
    """The upper bounds of the buckets that ages of decisions are in."""
    (point,) = telemetry.metric(AGE).points
    return [(*point.bounds, None)[at] for at, times in enumerate(point.bucket_counts) for _ in range(times)]


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, [300]), (2, [300]), (3, [1, 30, 300]), (4, [300])], ids=["1", "2", "as many", "4"]
)
def test_a_batch_of_as_many_rows_as_messages(telemetry, scorer, rows, expected):
    """Each row is a decision on its own message; otherwise the call is one, on the oldest."""
    with otel_pipeline.process(records(telemetry, 0.7, 20, 200)):
        scorer.predict([1] * rows)

    assert buckets(telemetry) == expected


def test_rows_beside_another_input_are_one_decision(telemetry, scorer):
    """What the application has read besides belongs to each row, and is the oldest."""
    with otel_pipeline.process(records(telemetry, 1, 20)):
        flow.input("features", age_s=200)
        scorer.predict([1, 1])

    assert buckets(telemetry) == [300]


def test_a_freshness_objective_judges_each_row(telemetry, pipe, scorer):
    """By its own message."""
    objective = Objective("fresh", model="Patched", threshold_s=10.0, objective=0.99)
    totals = pipe._engine.totals
    inference._inferences.decisions = Decisions(totals, Objectives((objective,), totals), str).of
    inference._inferences._prepared.clear()
    with otel_pipeline.process(records(telemetry, 1, 20, 30)):
        scorer.predict([1, 1, 1])

    counts = {
        point.attributes["otel_pipeline.slo.met"]: point.value
        for point in telemetry.metric("otel_pipeline.slo.events").points
    }
    assert {met: times for met, times in counts.items() if times} == {"true": 1, "false": 2}


def test_an_object_that_takes_no_weak_reference(telemetry, pipe):
    """It is asked at each call; nothing is kept of it."""
    methods = ModelMethods(inference._inferences, pipe._guard, "ours", "ours")

    class Slots:
        __slots__ = ()
        predict = methods.around("predict", rows_of, lambda _self, data: data)

    for _ in range(3):
        Slots().predict([1])

    assert counted(telemetry, DURATION) == {("Slots", None): 3}


def test_what_fails_in_ours_is_counted(telemetry, pipe):
    """Rows that cannot be counted are absent, a name that cannot be read is none: the call is made."""

    def fails(*_arguments):
        raise RuntimeError

    one = ModelMethods(inference._inferences, pipe._guard, "ours", "ours")
    other = ModelMethods(inference._inferences, pipe._guard, "ours", "other", fails)
    model = type(
        "Model",
        (),
        {
            "predict": one.around("predict", fails, lambda *_all: 1),
            "score": other.around("score", rows_of, lambda *_all: 2),
        },
    )()

    assert [model.predict([1]), model.score([1])] == [1, 2]
    assert (counted(telemetry, DURATION), counted(telemetry, ROWS)) == ({("Model", None): 2}, {("Model", None): 1})
    assert pipe.status().errors == {"ours.rows": 1, "other.name": 1}


def test_threads_count_each_for_itself(telemetry, scorer):
    """A call in one is not inside of that of another."""
    barrier = threading.Barrier(4)

    def call():
        barrier.wait()
        for _ in range(100):
            scorer.predict([1])

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(call) for _ in range(4)]:
            future.result()

    assert counted(telemetry, DURATION) == {("Patched", None): 400}


def test_switched_off_it_is_the_method_alone(telemetry, pipe, scorer):
    """What somebody kept of it calls through."""
    pipe.uninstrument()

    assert (scorer.predict([1]), telemetry.metric(DURATION)) == ([2], None)

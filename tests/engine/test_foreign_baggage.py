"""Another environment's baggage goes on only where it is permitted; one's own is never touched."""

from __future__ import annotations

import itertools
from operator import itemgetter

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import NoOpTracerProvider

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.clients import Consumer
from otel_pipeline.engine.engine import Engine
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.processor import Processor
from otel_pipeline.engine.propagation import Propagation
from otel_pipeline.engine.settings import EngineSettings
from otel_pipeline.engine.spans import TracerSpans
from otel_pipeline.engine.totals import Totals
from tests.limits import below_at_above

FIELDS = MessageFields(
    destination=lambda _message: "orders",
    partition=lambda _message: 0,
    offset=itemgetter(0),
    timestamp_ms=lambda _message: 0,
    key=lambda _message: None,
    headers=itemgetter(1),
    value=lambda _message: b"v",
    body_bytes=lambda _message: 1,
)
OF = {
    name: pipeline_header.encode(
        flags=0, hops=1, environment=code, origin_ms=1, newest_ms=0, path=5, producer_id=1, sequence=1, tag=1
    )
    for name, code in (("own", "production"), ("local", "local"), ("unlabelled", None))
}
ALL, NOTHING = {"tenant": "7", "debug": "yes"}, {}
offsets = itertools.count()


@pytest.fixture
def processed():
    """Processes a message with this baggage, sent by whom; returns what the handler sees and what it would send."""
    problems = []

    def process(sender, raw=b"tenant=7;p=1,debug=yes", around=None, environment="production", trust="all", **settings):
        guard = Guard()
        engine = Engine(
            spans=TracerSpans(NoOpTracerProvider().get_tracer("t"), None),
            propagation=Propagation(get_global_textmap(), problems.append),
            totals=Totals(),
            guard=guard,
            settings=EngineSettings(environment=environment, trust=lambda _name: trust, **settings),
        )
        headers = [("traceparent", b"00-%032x-%016x-01" % (7, 9)), ("baggage", raw)]
        if sender in OF:
            headers.append(("otelp", OF[sender]))
        message = next(offsets), headers
        consumer = Consumer(engine, FIELDS, attributes={}, operation="poll")
        token = attach(Context() if around is None else around)
        try:
            processor = Processor(engine, FIELDS)
            delivery = processor.begin(consumer.partition("orders", 0), message)
            seen = dict(baggage.get_all())
            # An application that hands the message's headers on.
            sent = dict(engine.propagation.write(headers, delivery.own))
            processor.finish(delivery)
        finally:
            detach(token)
        problems.extend(guard.problems.values())
        return seen, sent.get("baggage")

    process.problems = problems
    return process


CASES = {
    # environment, trust, from_other_environments: what goes on of (its own, another's, unlabelled, without our header)
    ("production", "all", None): (ALL, ALL, ALL, ALL),
    ("production", "all", ()): (ALL, NOTHING, ALL, ALL),
    ("production", "all", ("tenant",)): (ALL, {"tenant": "7"}, ALL, ALL),
    ("production", "same-environment", None): (ALL, NOTHING, NOTHING, NOTHING),
    ("production", "same-environment", ("de*",)): (ALL, {"debug": "yes"}, {"debug": "yes"}, {"debug": "yes"}),
    ("production", "none", None): (NOTHING, NOTHING, NOTHING, NOTHING),
    ("production", "none", ("*",)): (ALL, ALL, ALL, ALL),
    # Who does not know its own environment cannot know that a message is of another one.
    (None, "all", ()): (ALL, ALL, ALL, ALL),
    (None, "same-environment", None): (NOTHING, NOTHING, NOTHING, NOTHING),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_goes_on(processed, case):
    """By the sender's environment, the destination's trust, and the option."""
    environment, trust, permitted = case

    found = [
        processed(sender, environment=environment, trust=trust, foreign_baggage=permitted)
        for sender in ("own", "local", "unlabelled", "none")
    ]

    written = {2: b"tenant=7;p=1,debug=yes", 0: None}
    one = {"tenant": b"tenant=7;p=1", "debug": b"debug=yes"}
    expected = [(each, written.get(len(each)) or one.get(next(iter(each), None))) for each in CASES[case]]
    assert (found, processed.problems) == (expected, [])


def test_the_application_keeps_its_own(processed):
    """What was in the context around the loop stands where the message's entry of that name is held back."""
    around = baggage.set_baggage("tenant", "mine", baggage.set_baggage("job", "nightly", Context()))

    found = processed("local", around=around, trust="same-environment")

    assert found[0] == {"tenant": "mine", "job": "nightly"}


@below_at_above("engine.foreign_baggage.MAX_BYTES", 1_024, False, False, True)
@pytest.mark.parametrize("sender", ["own", "local"])
def test_a_kilobyte(processed, size, outcome, sender):
    """1,024 bytes of another environment's go on, the entry that makes it more does not, and that is said."""
    raw = b"a=" + b"v" * 500 + b",b=" + b"v" * (size - 508) + b",c="
    assert len(raw) == size

    found, written = processed(sender, raw)

    is_held = sender == "local" and outcome
    assert (list(found), written) == ((["a", "b"], raw[:-3]) if is_held else (["a", "b", "c"], raw))
    assert len(processed.problems) == is_held
    assert all("more than 1,024 bytes of baggage" in each for each in processed.problems)

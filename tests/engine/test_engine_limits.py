"""Bounds of the engine, on plain tuples as messages: how far a trace goes on, and how much is remembered."""

from __future__ import annotations

import itertools

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_pipeline.engine import clients
from otel_pipeline.engine.engine import Engine
from otel_pipeline.engine.exemplars import Exemplars
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.inference import Inferences
from otel_pipeline.engine.links import CreationLinks
from otel_pipeline.engine.pipeline_header import NAME, PER_PARTITION, Template, decode, encode
from otel_pipeline.engine.send import destination_of
from otel_pipeline.engine.sequence import Sequences
from otel_pipeline.engine.totals import HistogramCell, Totals
from otel_pipeline.engine.trust import ForeignTraces
from tests.engine.test_trust import FIELDS, NOW_MS, Side
from tests.limits import below_at_above

SECOND_NS = 1_000_000_000


def header(hops, origin_ms):
    said = {"flags": PER_PARTITION, "environment": "production", "newest_ms": 0, "path": 1, "sequence": 0, "tag": 0}
    return encode(hops=hops, origin_ms=origin_ms, producer_id=7, **said)


def parent(*, sent_ms=NOW_MS, own=None, **settings):
    """The span id that the process span of a message has as its parent."""
    side = Side(ALWAYS_ON, **settings)
    headers = [("traceparent", b"00-%032x-%016x-01" % (1, 9)), *([] if own is None else [("otelp", own)])]
    side.process((0, sent_ms, headers))
    ((_trace, parent_id, _links),) = side.recorded()
    return parent_id


@below_at_above("engine.messages.EngineSettings.max_hops", 32, 9, 9, None)
def test_hops_of_a_trace(size, outcome):
    """It goes on over 32 hops."""
    assert parent(own=header(size, NOW_MS)) == outcome


@below_at_above("engine.messages.EngineSettings.parent_max_age_ms", 900_000, 9, 9, None)
def test_the_age_of_a_message(size, outcome):
    """A trace goes on over a quarter of an hour: by the header's origin, without one by the time of sending."""
    found = (
        parent(sent_ms=NOW_MS - size),
        parent(sent_ms=NOW_MS - 5 * size, own=header(1, NOW_MS - size)),
        parent(sent_ms=NOW_MS, own=header(2, NOW_MS - size)),
        parent(sent_ms=NOW_MS - 5 * size, own=header(2, NOW_MS - size)),
    )

    assert found == (outcome,) * 4


@below_at_above("engine.origin.MAX_AGE_MS", 315_360_000_000, None, None, 9)
def test_an_age_that_cannot_be_breaks_no_trace(size, outcome):
    """Above ten years a time is in another unit, or a clock is wrong: it is not known."""
    assert (parent(sent_ms=NOW_MS - size), parent(sent_ms=NOW_MS, own=header(2, NOW_MS - size))) == (outcome,) * 2


@pytest.mark.parametrize(
    "sent_ms", [-1, 0, None, "soon", NOW_MS // 1_000, NOW_MS * 1_000, NOW_MS + 365 * 86_400_000, 1 << 62]
)
def test_a_time_that_is_none(sent_ms):
    """A message that does not know when it was sent, or that is from the future, is not old."""
    assert parent(sent_ms=sent_ms) == 9


def test_our_header_wins_over_the_time_of_a_message():
    """A backfill says of its messages when they happened; they were sent now. With an origin of 0 nothing is known."""
    backfilled_ms = NOW_MS - 2 * 86_400_000
    sent_now, unknown = (parent(sent_ms=backfilled_ms, own=header(1, origin_ms)) for origin_ms in (NOW_MS, 0))

    assert (sent_now, unknown) == (9, None)


@below_at_above("engine.messages.EngineSettings.max_links", 128, 127, 128, 128)
def test_links_of_a_batch(size, outcome):
    """To the first 128 sampled messages."""
    engine = Side(ALWAYS_ON).engine
    batch = [(at, NOW_MS, [("traceparent", b"00-%032x-%016x-01" % (at + 1, 9))]) for at in range(size)]
    links = CreationLinks(engine, FIELDS, [batch])

    assert (len(links), links[-1].context.trace_id) == (outcome, outcome)


@below_at_above("engine.trust.ForeignTraces: the rate", 10, 9, 10, 10)
def test_foreign_traces_of_a_second(size, outcome):
    """So many are let through, and the messages of those that were."""
    traces = ForeignTraces(10)
    admitted = [trace for trace in range(size) if traces.admit(trace, 5 * SECOND_NS)]
    again = [trace for trace in range(size) if traces.admit(trace, 5 * SECOND_NS + 1)]

    assert (admitted, again) == (list(range(outcome)), list(range(outcome)))


@below_at_above("engine.trust.ForeignTraces: the second", SECOND_NS, False, True, True)
def test_the_next_second(size, outcome):
    """It begins a second after the first trace, and lets others through."""
    traces = ForeignTraces(1)
    first = traces.admit(1, 5 * SECOND_NS)

    assert (first, traces.admit(2, 5 * SECOND_NS + size)) == (True, outcome)


@pytest.mark.parametrize(("rate", "window_ns", "admitted"), [(0.5, 2 * SECOND_NS, 1), (1.5, SECOND_NS * 4 // 3, 2)])
def test_rates_that_are_no_whole_number(rate, window_ns, admitted):
    """The window is as long as whole traces need."""
    traces = ForeignTraces(rate)
    first = [trace for trace in range(5) if traces.admit(trace, SECOND_NS)]

    assert (len(first), traces.admit(9, SECOND_NS + window_ns - 2), traces.admit(9, SECOND_NS + window_ns + 2)) == (
        admitted,
        False,
        True,
    )


@pytest.mark.parametrize(("rate", "admitted"), [(0, 0), (-1, 0), (None, 5)])
def test_no_foreign_trace_or_all(rate, admitted):
    """0 lets none through, no rate lets all."""
    traces = ForeignTraces(rate)

    assert sum(traces.admit(trace, SECOND_NS) for trace in range(5)) == admitted


@below_at_above("engine.trust._MAX_REMEMBERED", 10_000, (9_999, 1.0), (10_000, 1.0), (10_000, 10_000 / 10_001))
def test_foreign_traces_that_are_remembered(size, outcome):
    """Of higher rates the window is shorter instead."""
    traces = ForeignTraces(size)
    admitted = sum(traces.admit(trace, 0) for trace in range(size))
    most, window = outcome

    assert (
        admitted,
        traces.admit(-1, round(window * SECOND_NS) - 1),
        traces.admit(-1, round(window * SECOND_NS) + 1),
    ) == (
        most,
        False,
        True,
    )


@below_at_above("engine.engine.MAX_DESTINATIONS", 100, "orders-98", "orders-99", "_other")
def test_destinations_in_metrics(size, outcome):
    """A hundred by name, the others together; those that are known stay."""
    engine = Side(ALWAYS_ON).engine
    named = [engine.metric_destination(f"orders-{at}") for at in range(size)]

    assert (named[-1], engine.metric_destination("orders-0"), bool(engine.guard.problems)) == (
        outcome,
        "orders-0",
        outcome == "_other",
    )


@below_at_above("engine.inference.MAX_MODELS", 100, "m98", "m99", "_other")
def test_models_in_metrics(size, outcome):
    """A hundred by name, the others together; those that are known stay."""
    totals, guard = Totals(), Guard()
    inferences = Inferences(spans=Side(ALWAYS_ON).engine.spans, totals=totals, guard=guard)
    for model in (*(f"m{at}" for at in range(size)), "m0"):
        inferences.begin(model).finish()
    counted = {
        attributes["otel_pipeline.model.name"]: point.count for attributes, point in inferences.duration.points()
    }

    assert (list(counted)[-1], counted["m0"], bool(guard.problems)) == (outcome, 2, outcome == "_other")


@below_at_above("engine.inference.MAX_VERSIONS", 5, "3", "4", "_other")
def test_versions_of_a_model_in_metrics(size, outcome):
    """Five of each model by name, the others together; those that are known stay."""
    totals, guard = Totals(), Guard()
    inferences = Inferences(spans=Side(ALWAYS_ON).engine.spans, totals=totals, guard=guard)
    for version in (None, *(str(at) for at in range(size)), "0"):
        inferences.begin("churn", version=version).finish()
    counted = {
        attributes.get("otel_pipeline.model.version"): point.count for attributes, point in inferences.duration.points()
    }

    assert (list(counted)[-1], counted["0"], counted[None], bool(guard.problems)) == (
        outcome,
        2,
        1,
        outcome == "_other",
    )


@below_at_above("engine.clients.MAX_PARTITION_STATES", 10_000, 10_000, 1, 1)
def test_partitions_of_a_consumer(size, outcome):
    """Where there are 10,000 and one more comes, all are made anew at their next message."""
    consumer = Side(ALWAYS_ON).consumer
    consumer.partitions.update({("orders", -at): None for at in range(1, size + 1)})
    consumer.partition("orders", 0)

    assert len(consumer.partitions) == outcome


@below_at_above("engine.clients.MAX_PARTITION_STATES", 10_000, True, False, False)
def test_partitions_whose_fetches_are_followed(size, outcome):
    """Of 10,000; of more whether the consumer keeps pace is not known."""
    consumer = Side(ALWAYS_ON).consumer
    consumer.engine.observe_fetches = lambda *_which: "observer"
    consumer.fetches.update({("orders", -at): None for at in range(1, size + 1)})

    assert (consumer.fetch_observer("orders", 0) == "observer") is outcome


@below_at_above("engine.clients.RECENT", 33, 32, 33, 33)
def test_what_is_kept_of_polls(size, outcome):
    """The time between the last 33."""
    polling = clients.Polling(0)
    for at in range(size):
        polling.begin(at, by_iterator=False)

    assert len(polling.recent_ns) == outcome


def test_the_time_between_polls_and_in_them():
    """Both are known while a call is under way, and after it; what an iterator asks for is no end of work."""
    polling = clients.Polling(100)
    polling.begin(130, by_iterator=False)
    within = polling.waited_until(135), polling.waited_until(120)
    polling.end(150)
    polling.begin(190, by_iterator=True)
    polling.end(200)
    polling.begin(250, by_iterator=False)

    assert (within, polling.waited_until(251), polling.working_p95_s(), polling.longest_ns) == ((5, 0), 31, 50e-9, 50)


@below_at_above("engine.send: destinations of a producer", 10_000, 10_000, 10_000, 10_001)
def test_destinations_of_a_producer(size, outcome):
    """Of 10,000 it is remembered what is the same for every message; the others work as well."""
    engine = Side(ALWAYS_ON).engine
    producer = clients.Producer(
        attributes={},
        client_id=None,
        cluster_id=lambda: None,
        headers_allowed=True,
        excluded=False,
        numbers=None,
        read=lambda answer: answer,
    )
    producer.destinations.update(dict.fromkeys(range(size)))
    made = destination_of(engine, producer, "orders", "send")

    assert (made.name, len(producer.destinations)) == ("orders", outcome)


@below_at_above("engine.exemplars.MAX_EXEMPLARS", 2_048, 2_047, 2_048, 2_048)
def test_spans_that_wait_to_be_exemplars(size, outcome):
    """Of more the newest."""
    exemplars = Exemplars(Guard())
    for at in range(size):
        exemplars.add(at)

    assert list(exemplars._waiting) == list(range(size - outcome, size))


def stamped(sequences, topic="orders"):
    """The number that the next message of this producer gets, and what is done once the client has taken it."""
    headers = [(NAME, header(1, NOW_MS)[:32] + b"AAAAAAAA")]
    stamp = sequences.stamp(headers, topic, 0)
    if stamp is None:
        return None
    sequences.settle(headers, stamp, taken=True)
    return decode(headers[0][1]).sequence


@below_at_above("engine.sequence._LAST", 0xFFFF_FFFF, 0xFFFF_FFFF, 1, 2)
def test_the_last_number(size, outcome):
    """After it they begin at 1 again, 0 being none; with a header that is filled in, and with one that is stamped."""
    sequences = Sequences(Guard())
    placeholder = header(1, 0)[:32] + b"AAAAAAAA"
    sequences.template(8, Template(placeholder))
    filled = [(NAME, placeholder)]
    sequences.stamp(filled, "orders", 0)
    stamped(sequences)
    for count in sequences._counts.values():
        count.last = size
    filled = [(NAME, placeholder)]
    sequences.stamp(filled, "orders", 0)

    assert (decode(filled[0][1]).sequence, stamped(sequences)) == (outcome, outcome)


@below_at_above("engine.sequence.MAX_SEQUENCES", 100_000, 1, None, None)
def test_sequences(size, outcome):
    """Of 100,000 producers, topics and partitions; the messages of others have none."""
    sequences = Sequences(Guard())
    sequences._counts.update(dict.fromkeys(range(size)))

    assert stamped(sequences) == outcome


@below_at_above("engine.sequence.MAX_SEQUENCES", 100_000, 100_000, 100_000, 100_001)
def test_templates(size, outcome):
    """As many headers are known that are filled in."""
    sequences = Sequences(Guard())
    sequences._templates.update(dict.fromkeys(range(size)))
    sequences.template(8, Template(header(1, 0)))

    assert len(sequences._templates) == outcome


@below_at_above("engine.sequence.MAX_FORGOTTEN", 1_000, 1_000, 1_000, 1_001)
def test_last_numbers_of_producers_that_are_gone(size, outcome):
    """A thousand are kept."""
    sequences = Sequences(Guard())
    stamped(sequences)
    sequences._forgotten.update({(0, "", at): 1 for at in range(size)})
    sequences.forget(7)

    assert (len(sequences.given()), sequences.given().get((7, "orders", 0))) == (
        outcome,
        1 if size < 1_000 else None,
    )


@below_at_above("engine.totals.SERIES_LIMIT", 2_000, (1_999, 0), (2_000, 0), (2_000, 1))
def test_series_of_an_instrument(size, outcome):
    """2,000, and one for all others."""
    problems = []
    counter = Totals(problem=lambda key, _message: problems.append(key)).counter("sent", "1", "")
    for at in range(size):
        counter.cell({"at": at}).value += 1
    overflowing = [value for attributes, value in counter.points() if "otel.metric.overflow" in attributes]

    assert (counter.series_count, sum(overflowing), len(problems)) == (*outcome, outcome[1])


@below_at_above("a bound of a histogram", 0.1, (1, 0), (1, 0), (0, 1), step=1e-9)
@pytest.mark.parametrize("last", [0.05, 0.1, 0.15], ids=["after one below", "after one at it", "after one above"])
def test_the_bounds_of_buckets(last, size, outcome):
    """They are inclusive above, wherever the last value was, and however values come."""
    cell = HistogramCell((0.1, 1.0))
    cell.record(last)
    before = tuple(cell.bucket_counts)
    cell.record(size)
    alike = HistogramCell((0.1, 1.0))
    assert alike.record_alike(1, size, size, size)

    assert tuple(after - first for after, first in zip(cell.bucket_counts, before, strict=True)) == (*outcome, 0)
    assert tuple(alike.bucket_counts) == (*outcome, 0)


@pytest.mark.parametrize(("made", "kept"), [(15, 15), (16, 16), (17, 1), (31, 15), (32, 16), (33, 1)], ids="{}".format)
def test_cells_whose_owners_are_gone(made, kept):
    """They are folded when there are 16 and one more comes; nothing is lost."""
    counter = Totals().counter("sent", "1", "")
    for _ in itertools.repeat(None, made):
        counter.cell({}, owner=type("Owner", (), {})()).value += 1
    (series,) = counter._every_series()
    cells = len(series.cells)

    assert (cells, counter.value({})) == (kept, made)


def test_an_engine_that_is_given_nothing():
    """It has a guard and settings of its own."""
    side = Side(ALWAYS_ON).engine
    engine = Engine(spans=side.spans, propagation=side.propagation, totals=Totals())

    assert (engine.guard.errors, engine.settings.max_hops, engine.active) == ({}, 32, True)

"""OTLP JSON lines as services write them, with counted ids and times."""

from __future__ import annotations

TRACE = "5f0c1a2b" * 4
START_NS = 1_795_520_440_000_000_000


def otlp(spans, service, environment=None):
    """One export request of one service, as a line holds it."""
    resource = {"service.name": service}
    if environment:
        resource["deployment.environment.name"] = environment
    return {
        "resourceSpans": [
            {"resource": {"attributes": attributes(resource)}, "scopeSpans": [{"scope": {}, "spans": spans}]}
        ]
    }


def attributes(values):
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return [{"key": name, "value": {kinds[type(value)]: value}} for name, value in values.items()]


def span(number, parent, name, kind, start_ms, end_ms, trace_id=TRACE, *, error=None, links=(), **values):
    """A span with a counted id, times in ms after START_NS."""
    written = {
        "traceId": trace_id,
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": name,
        "kind": f"SPAN_KIND_{kind}",
        "startTimeUnixNano": str(START_NS + round(start_ms * 1e6)),
        "endTimeUnixNano": str(START_NS + round(end_ms * 1e6)),
        "attributes": attributes(
            {**destination(name), **{key.replace("__", "."): value for key, value in values.items()}}
        ),
        "links": [{"traceId": trace, "spanId": f"{linked:016x}"} for trace, linked in links],
    }
    if error is not None:
        written["status"] = {"code": 2, "message": error}
    return written


def destination(name):
    operation, _, topic = name.partition(" ")
    return {"messaging.destination.name": topic} if operation in {"send", "process", "poll"} else {}


def at(partition, offset):
    return {"messaging__destination__partition__id": partition, "kafka__offset": offset}


def received(hops, message_age, data_age):
    return {
        "otel_pipeline__hops": hops,
        "otel_pipeline__delivery__age": message_age,
        "otel_pipeline__data__age": data_age,
    }


def demo_lines(trace_id=TRACE, first=1):
    """One message of the demo: what its three services record, one request each, and the poll of the second."""
    send, process, second, score, predict, last = range(first, first + 6)
    return [
        otlp([span(send, 0, "send digits.raw", "PRODUCER", 0, 2.1, trace_id, **at("3", 12))], "ingest", "local"),
        otlp(
            [
                span(
                    process,
                    send,
                    "process digits.raw",
                    "CONSUMER",
                    3.2,
                    4.1,
                    trace_id,
                    links=[(trace_id, send)],
                    **at("3", 12),
                    **received(1, 0.0032, 0.0032),
                ),
                span(second, process, "send digits.features", "PRODUCER", 3.9, 5.5, trace_id, **at("1", 7)),
                span(
                    first + 100,
                    0,
                    "poll digits.raw",
                    "CLIENT",
                    2.5,
                    3.1,
                    "9" * 32,
                    links=[(trace_id, send)],
                    messaging__operation__type="receive",
                    messaging__batch__message_count=120,
                ),
            ],
            "features",
            "staging",
        ),
        otlp(
            [
                span(
                    score,
                    second,
                    "process digits.features",
                    "CONSUMER",
                    6,
                    8,
                    trace_id,
                    links=[(trace_id, second)],
                    **at("1", 7),
                    **received(2, 0.0021, 0.006),
                ),
                span(
                    predict,
                    score,
                    "predict digits-v1",
                    "INTERNAL",
                    6.2,
                    6.9,
                    trace_id,
                    otel_pipeline__data__age=0.0062,
                    otel_pipeline__model__name="digits-v1",
                ),
                span(last, score, "send digits.predictions", "PRODUCER", 7.4, 9, trace_id, **at("3", 11)),
            ],
            "scorer",
            "production",
        ),
    ]


def fact(lines, name):
    """What the screen says after a name."""
    return next((line.removeprefix(name).strip() for line in lines if line.startswith(name)), None)

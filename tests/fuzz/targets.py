"""What is fuzzed: a function for each format that somebody else writes, of any bytes. It raises what is a fault of ours.

Those of plain bytes are here, as fast as they can be; those of built objects are hypothesis tests of the suite, which
can be driven by a fuzzer's bytes (`fuzz_one_input`).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

from google.protobuf.message import DecodeError
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState

from otel_pipeline.cli.main import main
from otel_pipeline.dev import receiver as dev_receiver
from otel_pipeline.dev.requests_as_json import PATHS, as_json
from otel_pipeline.engine import origin_state, pipeline_header, w3c
from otel_pipeline.engine.headers import own_header
from otel_pipeline.engine.trace_context import MAX_TRACEPARENT_BYTES, parse_traceparent
from otel_pipeline.export.otlp.answer import MAX_SAID, rejected
from otel_pipeline.export.otlp_reader import parse
from otel_pipeline.export.spool import frames
from otel_pipeline.export.spool.segments import FileSegment
from tests.engine import test_propagation
from tests.export import test_compiled_spans
from tests.export.otlp import test_encoder

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))  # noqa: S108


def traceparent(data: bytes) -> None:
    """Reads as OpenTelemetry's own propagator does, bytes or text."""
    text = data.decode("latin-1")
    found = parse_traceparent(data)
    assert parse_traceparent(text) == found
    if text.isascii() and len(text) <= MAX_TRACEPARENT_BYTES and text.isprintable():
        official = TraceContextTextMapPropagator().extract({"traceparent": text}, Context())
        theirs = get_current_span(official).get_span_context()
        ids = (theirs.trace_id, theirs.span_id, int(theirs.trace_flags)) if theirs.is_valid else None
        assert found == ids, (found, ids)


def tracestate(data: bytes) -> None:
    """Reads only what OpenTelemetry's class takes, and the same again once that has written it."""
    values = data.split(b"\n")
    found = w3c.parse_tracestate(values)
    origin_state.in_headers(values)
    if found is None:
        return
    state = TraceState(found)
    assert list(state.items()) == found
    assert w3c.parse_tracestate([state.to_header()]) == found


def baggage(data: bytes) -> None:
    """What is read and written is read the same again, properties included."""
    members = w3c.parse_baggage(data.split(b"\n"))
    if members is None:
        return
    came = {member.key: member for member in members}
    written = w3c.encode_baggage({key: member.value for key, member in came.items()}, came)
    again = {member.key: member for member in w3c.parse_baggage([written]) or ()}
    assert len(written) <= w3c.MAX_BAGGAGE_BYTES
    assert again.items() <= came.items()
    if len(data) * 3 < w3c.MAX_BAGGAGE_MEMBER_BYTES:  # No member can have become too long.
        assert again == came


def data_flow_header(data: bytes) -> None:
    """All that reads `otelp` agrees, whether it reads it whole, in part, or with others."""
    whole, fields = pipeline_header.decode(data), pipeline_header.fields(data)
    text = data.decode("latin-1")
    assert pipeline_header.decode(text) == (whole if data.isascii() else None)
    hops, producer = pipeline_header.hops_of(data), pipeline_header.producer_of(data)
    environment = pipeline_header.origin_environment(data)
    pipeline_header.environment_of(data, pipeline_header.OTHER_ENVIRONMENT)
    block = pipeline_header.HeaderBlock.read([data])
    assert own_header([("otelp", data)]) is data
    if whole is not None:
        assert fields is not None
        head, high, low, delta, path_high, path_low, number, sequence, tag = fields
        flags = head >> 16 & 0xFF
        assert (flags, head >> 8 & 0xFF, high << 32 | low) == (whole.flags, whole.hops, whole.origin_ms)
        assert whole.newest_ms - whole.origin_ms == (delta if flags & pipeline_header.FAN_IN else 0)
        assert (path_high << 32 | path_low, number, sequence, tag) == whole[5:]
        assert (hops, environment) == (whole.hops, whole.environment)
        assert producer == (number if flags & pipeline_header.PER_PARTITION else None)
    if block is not None and fields is not None:
        assert block.numbers() == [fields[6:]]
        assert list(block.origins_ms()) == [fields[1] << 32 | fields[2]]


def answer(data: bytes) -> None:
    """What a server says of a request is read as protobuf's library reads it, or says nothing."""
    count, said = rejected(data)
    assert 0 <= count < 1 << 63
    assert len(said) <= MAX_SAID
    assert said.isprintable()
    if (count, said) == (0, ""):
        return
    with contextlib.suppress(DecodeError):
        theirs = ExportTraceServiceResponse.FromString(data).partial_success
        assert count == max(theirs.rejected_spans, 0)
        assert said == "".join(sign if sign.isprintable() else "?" for sign in theirs.error_message[:MAX_SAID])


def segment(data: bytes) -> None:
    """A file of any bytes is read to its end, each frame once, and all of it is gone when it was taken."""
    path = FOLDER / "a.spool"
    path.write_bytes(data)
    _taken(path)


def _taken(path: Path) -> list[bytes]:
    opened = FileSegment.open(path, 0)
    if opened is None:
        return []
    _, found = opened
    payloads, end = [], -1
    try:
        while (part := found.part(0)) is not None:
            assert part.end > end
            assert part.end <= found.size
            end = part.end
            payloads += [part.payload] * bool(part.frames)
            found.take(part)
        assert found.is_taken
    finally:
        found.close()
    again = FileSegment.open(path, 0)
    assert again is not None
    assert again[1].part(0) is None  # Another process is given none of it once more.
    again[1].close()
    return payloads


def damaged_segment(data: bytes) -> None:
    """Some bytes of a whole file were changed: each frame that they are not in comes out, in its order."""
    damage, payloads = data[:8], [part[:200] for part in data[8:].split(b"\n", 8)]
    path = FOLDER / "b.spool"
    written = frames.head("traces", b"12345678")
    places = []
    for payload in payloads:
        frame = frames.frame(payload, 1, compress=bool(payload[:1] > b"m"))
        places.append((len(written), len(written) + len(frame), payload))
        written += frame
    changed = bytearray(written)
    touched = set()
    for high, low in itertools.pairwise(damage[::2]):
        at = frames.HEAD_BYTES + (high << 8 | low) % (len(written) - frames.HEAD_BYTES)
        changed[at] ^= damage[1] or 1
        touched.add(at)
    path.write_bytes(changed)
    whole = [payload for begin, end, payload in places if not touched & set(range(begin, end)) and payload]
    found = iter(_taken(path))
    assert all(payload in found for payload in whole)


def receiver(data: bytes) -> None:
    """A body becomes lines that the reader reads, or none."""
    path = PATHS[data[0] % 3] if data else "/v1/traces"
    try:
        made = as_json(path, data[1:])
    except DecodeError:
        return
    line = json.dumps(made)
    with contextlib.suppress(ValueError, TypeError, AttributeError, LookupError):
        parse(json.loads(line))


class _Connection(dev_receiver._Connection):
    """A connection on which everything has come already."""

    def __init__(self, sent: bytes) -> None:
        self.rfile, self.wfile = io.BufferedReader(io.BytesIO(sent)), io.BytesIO()
        self.client_address, self.connection, self.kept = ("127.0.0.1", 1), None, io.StringIO()
        self.server = SimpleNamespace(receiver=dev_receiver.Receiver(dev_receiver.Lines(self.kept).take))
        self.handle()


def receiver_http(data: bytes) -> None:
    """Whatever is sent to it, it answers what it answers in HTTP, and keeps whole lines."""
    connection = _Connection(data)
    said = connection.wfile.getvalue()
    if getattr(connection, "request_version", "") != "HTTP/0.9":  # Of which an answer has no head.
        assert not said or said.startswith((b"HTTP/1.", b"<!DOCTYPE"))
    for line in connection.kept.getvalue().splitlines():
        json.loads(line)


def show(data: bytes) -> None:
    """A file of any lines is shown, or a sentence says why not; nothing in it steers the terminal."""
    how, content = data[:1], data[1:]
    path = FOLDER / "x.jsonl"
    path.write_bytes(content)
    words = [[], ["--json"], ["--list"], ["--list", "--json"]][how[0] % 4 if how else 0]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["show", "--no-color", "--file", str(path), *words])
    said = out.getvalue() + err.getvalue()
    assert code in {0, 2}
    assert "fault of otel-pipeline" not in said, said
    assert [letter for letter in said if letter != "\n" and not letter.isprintable()] == []


TARGETS = {
    "traceparent": traceparent,
    "tracestate": tracestate,
    "baggage": baggage,
    "data_flow_header": data_flow_header,
    "answer": answer,
    "segment": segment,
    "damaged_segment": damaged_segment,
    "receiver": receiver,
    "receiver_http": receiver_http,
    "show": show,
}
BUILT = {
    "header_lists": test_propagation.test_nothing_raises_and_nothing_is_changed,
    "header_lists_written": test_propagation.test_what_is_written_over_any_headers_is_read,
    "otlp_spans": test_encoder.test_spans,
    "otlp_recorded_spans": test_compiled_spans.test_any_span_is_encoded_as_the_sdk_would,
    "otlp_logs": test_encoder.test_log_records,
    "otlp_metrics": test_encoder.test_metrics,
    "otlp_bad_values": test_encoder.test_whatever_a_value_is,
}
"""Hypothesis tests: a fuzzer's bytes are what it draws from."""

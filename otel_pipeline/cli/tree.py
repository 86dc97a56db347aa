"""Draws one trace as a tree: a table where it fits, two lines per span where it does not."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from otel_pipeline import semconv
from otel_pipeline.cli.terminal import (
    SERVICE_COLORS,
    Cell,
    Terminal,
    cut,
    duration,
    fits,
    table,
    wrap,
)
from otel_pipeline.cli.traces import LEVELS, Branch, Trace, environment, service
from otel_pipeline.plain_text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_pipeline.export.otlp_reader import LinkRecord, SpanRecord

HEADER = ("", "service", "environment", "partition@offset", "hops", "duration", "message age", "data age")
_RIGHT = (False, False, False, True, True, True, True, True)
SPANS = 2_000
"""Of a trace that are drawn unless somebody asks for more: a screen has 50 lines."""
_LINKS = 20
"""Of a span that are drawn; a pull may have hundreds."""


def draw(trace: Trace, linked: Iterable[SpanRecord], terminal: Terminal, limit: int = SPANS) -> Iterator[str]:
    """Yield the lines of a trace, with so many spans at most; `linked` are spans of other traces that link into it."""
    yield terminal.paint(f"trace {trace.trace_id}", "bold")
    yield from wrap(_summary(trace, terminal), terminal)
    yield ""
    yield from _spans(trace, terminal, limit)
    others = sorted(linked, key=lambda span: span.start_ns)
    if others:
        yield ""
        yield "linked from other traces"
    for span in others[:limit]:
        yield from wrap(_linked(span, trace), terminal, indent="  ")
    yield from _left_out(len(others) - limit, terminal)


def _left_out(number: int, terminal: Terminal) -> Iterator[str]:
    if number > 0:
        yield terminal.paint(f"and {count(number, 'more span')}: --limit N draws more, --json has all", "dim")


def local_time(time_ns: int) -> str:
    """Write a point in time for people, in their time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns / 1e9))


def count(number: int, noun: str) -> str:
    """Write a number with its noun: `1 span`, `6 spans`, `1,797 messages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def chain(words: Iterable[str], terminal: Terminal) -> str:
    """Join names in the order in which a message passed them."""
    return f" {terminal.mark('arrow')} ".join(printable(word) for word in words)


def _summary(trace: Trace, terminal: Terminal) -> list[str]:
    parts = [
        count(len(trace.spans), "span"),
        count(len(trace.services), "service"),
        chain(trace.environments, terminal),
        duration(trace.seconds),
        local_time(trace.start_ns),
        f"ERROR in {count(trace.errors, 'span')}" if trace.errors else "",
    ]
    return [part for part in parts if part]


def _spans(trace: Trace, terminal: Terminal, limit: int) -> Iterator[str]:
    branches = list(islice(trace.branches(), limit))
    known = {span.span_id: span for span in trace.spans}
    colors = {name: SERVICE_COLORS[at % len(SERVICE_COLORS)] for at, name in enumerate(trace.services)}
    rows = [_row(branch, colors, terminal) for branch in branches]
    heading = [Cell(word, "dim", right) for word, right in zip(HEADER, _RIGHT, strict=True)]
    lines = list(table([heading, *rows], terminal))
    is_table = fits([heading, *rows], terminal)
    if is_table:
        yield lines[0]
    for at, (branch, row) in enumerate(zip(branches, rows, strict=True)):
        below = _indent(branch, terminal, own=False)
        if is_table:
            yield lines[at + 1]
        else:
            yield _painted(row[0], terminal)
            yield from wrap(list(_details(row)), terminal, indent=below + "  ")
        for note, style in _notes(branch.span, trace, known):
            yield terminal.paint(cut(f"{below}  {note}", terminal.width, terminal), style)
    yield from _left_out(len(trace.spans) - sum(branch.span is not None for branch in branches), terminal)


def _painted(cell: Cell, terminal: Terminal) -> str:
    return terminal.paint(cut(cell.text, terminal.width, terminal), cell.style)


def _details(row: Sequence[Cell]) -> Iterator[str]:
    """Write the cells in words, where there is no heading to say what a number is."""
    labels = ("", "", "", "", "hops ", "", "message age ", "data age ")
    for label, cell in zip(labels[1:], row[1:], strict=True):
        if cell.text:
            yield label + cell.text


def _row(branch: Branch, colors: Mapping[str, str], terminal: Terminal) -> list[Cell]:
    span = branch.span
    indent = _indent(branch, terminal, own=True)
    if span is None:
        missing = f"(parent {branch.missing} not recorded)"
        return [Cell(missing, "yellow"), *(Cell("") for _ in HEADER[1:])]
    attributes = span.attributes
    texts = (
        service(span),
        environment(span),
        _message(attributes),
        str(attributes.get(semconv.OTEL_PIPELINE_HOPS, "")),
        duration((span.end_ns - span.start_ns) / 1e9),
        _age(attributes.get(semconv.OTEL_PIPELINE_DELIVERY_AGE)),
        _age(attributes.get(semconv.OTEL_PIPELINE_DATA_AGE)),
    )
    first = Cell(indent + span.name, "red" if span.status == "ERROR" else "")
    color = colors[service(span)]
    styles = (color, color, "", "", "", "", "")
    return [
        first,
        *(Cell(text, style, right) for text, style, right in zip(texts, styles, _RIGHT[1:], strict=True)),
    ]


def _indent(branch: Branch, terminal: Terminal, *, own: bool) -> str:
    """Draw the lines left of a span's name, or (`own=False`) left of what stands below the name."""
    levels = branch.last
    most = LEVELS if terminal.width is None else max(2, min(LEVELS, terminal.width // 6))
    skipped = f"{terminal.mark('cut')}{branch.depth - most:,} " if branch.depth > most else ""
    levels = levels[-most:]
    above = "".join(terminal.mark("blank" if last else "pipe") for last in (levels[:-1] if own else levels))
    mark = terminal.mark("corner" if levels[-1] else "tee") if own and levels else ""
    return skipped + above + mark


def _message(attributes: Mapping[str, Any]) -> str:
    """Write `partition@offset` of one message, or how many messages a batch has."""
    batch = attributes.get(semconv.MESSAGING_BATCH_MESSAGE_COUNT)
    if batch is not None:
        return count(batch, "message") if isinstance(batch, int) else f"{batch} messages"
    partition = attributes.get(semconv.MESSAGING_DESTINATION_PARTITION_ID)
    # Of before v1.45, as other instrumentations have it.
    offset = attributes.get(semconv.KAFKA_OFFSET, attributes.get("messaging.kafka.offset"))
    if offset is None:
        return ""
    return f"{'?' if partition is None else printable(str(partition))}@{offset}"


def _age(seconds: Any) -> str:
    return duration(float(seconds)) if isinstance(seconds, int | float) else ""


def _notes(span: SpanRecord | None, trace: Trace, known: Mapping[str, SpanRecord]) -> Iterator[tuple[str, str]]:
    """Yield what stands below a span: how it failed, and what it links to besides its parent."""
    if span is None:
        return
    if span.status == "ERROR":
        kind = printable(str(span.attributes.get(semconv.ERROR_TYPE, "")))
        lines = span.status_message.strip().splitlines()
        message = printable(lines[0]) if lines else ""
        yield "ERROR " + (": ".join(part for part in (kind, message) if part) or "without a message"), "red"
    links = [link for link in span.links if (link.trace_id, link.span_id) != (trace.trace_id, span.parent_span_id)]
    for link in links[:_LINKS]:
        yield "link to " + _target(link, trace, known), "dim"
    if len(links) > _LINKS:
        yield f"and {count(len(links) - _LINKS, 'more link')}: --json has all", "dim"


def _target(link: LinkRecord, trace: Trace, known: Mapping[str, SpanRecord]) -> str:
    if link.trace_id != trace.trace_id:
        return f"span {link.span_id} of trace {link.trace_id}"
    span = known.get(link.span_id)
    return f"span {link.span_id}, not recorded" if span is None else f"{printable(span.name)} of {service(span)}"


def _linked(span: SpanRecord, trace: Trace) -> list[str]:
    names = {span.span_id: span.name for span in trace.spans}
    targets = list(
        dict.fromkeys(names.get(link.span_id, link.span_id) for link in span.links if link.trace_id == trace.trace_id)
    )
    parts = (
        printable(span.name),
        service(span),
        environment(span),
        _message(span.attributes),
        duration((span.end_ns - span.start_ns) / 1e9),
        f"links to {', '.join(map(printable, targets[:_LINKS]))}" + (", ..." if len(targets) > _LINKS else ""),
        f"trace {span.trace_id}",
    )
    return [part for part in parts if part]

"""Spans put together into traces: what `show` and `demo` draw and judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_pipeline import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_pipeline.export.otlp_reader import SpanRecord

LEVELS = 40
"""Of the lines at the left of a branch: those of the levels that are furthest from the root."""


def service(span: SpanRecord) -> str:
    """Return the name of the service that recorded the span."""
    return str(span.resource.get(semconv.SERVICE_NAME, "unknown"))


def environment(span: SpanRecord) -> str:
    """Return the environment that the service said it runs in; empty when it said none."""
    return str(span.resource.get(semconv.DEPLOYMENT_ENVIRONMENT_NAME, ""))


@dataclass(frozen=True)
class Branch:
    """One line of a tree: a span, or the place of a parent that was not recorded (`span` is None then)."""

    span: SpanRecord | None
    missing: str
    depth: int
    """How many levels are above it; a missing parent has none."""
    last: tuple[bool, ...]
    """Whether nothing follows on a level, for each level down to this one."""


@dataclass(frozen=True)
class Trace:
    """The spans of one trace id, each once, in the order of their start."""

    trace_id: str
    spans: tuple[SpanRecord, ...]

    @property
    def start_ns(self) -> int:
        """When its first span started."""
        return self.spans[0].start_ns

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return (max(span.end_ns for span in self.spans) - self.start_ns) / 1e9

    @property
    def root(self) -> SpanRecord:
        """The span without a parent, or the first one when that was not recorded."""
        return next((span for span in self.spans if not span.parent_span_id), self.spans[0])

    @property
    def services(self) -> tuple[str, ...]:
        """The services in the order in which they came in."""
        return tuple(dict.fromkeys(service(span) for span in self.spans))

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments in the order in which they came in."""
        return tuple(dict.fromkeys(environment(span) for span in self.spans if environment(span)))

    @property
    def errors(self) -> int:
        """How many spans failed."""
        return sum(span.status == "ERROR" for span in self.spans)

    @property
    def only_receives(self) -> bool:
        """Whether it is only receive spans: a polled batch is a trace of its own, linked to its messages' traces."""
        return all(span.attributes.get(semconv.MESSAGING_OPERATION_TYPE) == "receive" for span in self.spans)

    def branches(self) -> Iterator[Branch]:
        """Yield the lines of the tree from the top, children by start, each span once whatever the parents say."""
        ids = {span.span_id for span in self.spans}
        children: dict[str, list[SpanRecord]] = {}
        for span in self.spans:
            children.setdefault(span.parent_span_id, []).append(span)
        seen: set[str] = set()
        yield from _walk([Branch(span, "", 0, ()) for span in children.get("", ())], children, seen)
        lost = [parent for parent in children if parent and parent not in ids]
        for parent in lost:
            yield Branch(None, parent, 0, ())
            yield from _walk(_below(children[parent], 0, ()), children, seen)
        for span in self.spans:  # Parents that go round in a circle: broken data, shown all the same.
            if span.span_id not in seen:
                yield Branch(None, span.parent_span_id, 0, ())
                yield from _walk([Branch(span, "", 1, (True,))], children, seen)


def _walk(tops: list[Branch], children: dict[str, list[SpanRecord]], seen: set[str]) -> Iterator[Branch]:
    stack = tops[::-1]
    while stack:
        branch = stack.pop()
        span = branch.span
        if span is None or span.span_id in seen:
            continue
        seen.add(span.span_id)
        yield branch
        stack.extend(_below(children.get(span.span_id, []), branch.depth, branch.last)[::-1])


def _below(spans: list[SpanRecord], depth: int, last: tuple[bool, ...]) -> list[Branch]:
    # Each has its own: without the cut a chain of 30,000 would take a gigabyte.
    above = last[1 - LEVELS :]
    return [Branch(span, "", depth + 1, (*above, span is spans[-1])) for span in spans]


def group(spans: Iterable[SpanRecord]) -> dict[str, Trace]:
    """Group spans into traces by id, newest first. A span that was exported twice counts once."""
    found: dict[str, dict[str, SpanRecord]] = {}
    for span in spans:
        found.setdefault(span.trace_id, {}).setdefault(span.span_id, span)
    traces = [
        Trace(trace_id, tuple(sorted(members.values(), key=lambda span: (span.start_ns, -span.end_ns))))
        for trace_id, members in found.items()
    ]
    traces.sort(key=lambda trace: trace.start_ns, reverse=True)
    return {trace.trace_id: trace for trace in traces}

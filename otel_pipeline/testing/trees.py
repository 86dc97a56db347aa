"""Spans as a text that a test can compare with a literal: indentation follows parents."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_pipeline.export.otlp_reader import SpanRecord


def tree(spans: Iterable[SpanRecord], attributes: Sequence[str] = (), *, links: bool = False) -> str:
    """Draw one line per span, `name KIND`, children below their parent, in the order of their start.

    Args:
        spans: what was recorded; spans whose parent is not among them stand at the left, marked `(parent elsewhere)`.
        attributes: names of attributes to show, where a span has them.
        links: whether to name the spans that are linked to.
    """
    every = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    known = {(span.trace_id, span.span_id): span for span in every}
    children: dict[tuple[str, str], list[SpanRecord]] = defaultdict(list)
    roots: list[SpanRecord] = []
    for span in every:
        parent = (span.trace_id, span.parent_span_id)
        (children[parent] if parent in known else roots).append(span)
    lines: list[str] = []

    def draw(span: SpanRecord, depth: int) -> None:
        words = [span.name, span.kind]
        words += ["ERROR"] if span.status == "ERROR" else []
        words += ["(parent elsewhere)"] if depth == 0 and span.parent_span_id else []
        words += [f"{name}={span.attributes[name]}" for name in attributes if name in span.attributes]
        if links:
            words += [f"-> {_linked(link.trace_id, link.span_id)}" for link in span.links]
        lines.append("  " * depth + " ".join(words))
        for child in children[span.trace_id, span.span_id]:
            draw(child, depth + 1)

    def _linked(trace_id: str, span_id: str) -> str:
        target = known.get((trace_id, span_id))
        return target.name if target is not None else "elsewhere"

    for root in roots:
        draw(root, 0)
    return "\n".join(lines)

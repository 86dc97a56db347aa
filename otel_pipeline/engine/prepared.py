"""What is the same for all calls of one model and operation: made once, not per call.

Name and version as metrics have them, the span's shape, the cells to count in, and who counts its decisions.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

from opentelemetry.trace import SpanKind

from otel_pipeline import semconv
from otel_pipeline.engine.failure import error_type
from otel_pipeline.engine.span_shape import SpanShape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import Span

    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.totals import (
        AttributeValue,
        Counter,
        CounterCell,
        Histogram,
        HistogramCell,
        ThreadCells,
    )

DIFFERING = (
    semconv.OTEL_PIPELINE_DATA_INPUTS,
    semconv.OTEL_PIPELINE_DATA_AGE,
    semconv.OTEL_PIPELINE_DATA_NEWEST_AGE,
    semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT,
    semconv.OTEL_PIPELINE_INFERENCE_DEVICE,
    semconv.OTEL_PIPELINE_INFERENCE_ROWS,
)
"""What differs from call to call of one model, in the order of a span's values; the rows are last."""


class _Inside(threading.local):
    """Whether this thread is inside of a model's method, and of which model: what it calls is no call of its own.

    Those methods are plain functions, so no other task of the thread runs meanwhile; it costs a sixth of a context.
    """

    model: str | None = None


inside = _Inside()


class Decided(Protocol):
    """Counts the decisions of one model and version. Safe in any thread."""

    is_plain: bool
    """Whether it counts ages alone: who has one may record it in `cells_of(destination).cell`, in s."""

    def cells_of(self, destination: str | None) -> ThreadCells[HistogramCell]:
        """Return the cells of the ages of decisions on messages of a destination; None for those on no message."""

    def decided(
        self, delivery: OpenDelivery | None, origins_ms: Sequence[int], now_ns: int, span: Span | None = None
    ) -> None:
        """Count one decision on each of these origins, as `Origin.told_ms` has them."""


class Called(NamedTuple):
    """What tells the calls of one kind from those of another."""

    model: str
    operation: str
    version: str | None = None
    library: str | None = None
    clock: str | None = None
    """Whose clock their duration is of, where there are two: `host` or `device`."""


class _Mine(threading.local):
    """The calling thread's own cells: one look-up per call."""

    def __init__(self, prepared: Prepared) -> None:
        self.duration = prepared.duration.cell.record
        self.rows: CounterCell | None = None
        """None before the first rows: a model whose rows are not known has no series that says 0."""
        self.ages: dict[str, Callable[[float], None]] = {}
        """By the destination of the message that was decided on; filled by who records."""


class Prepared:
    """All that calls of one model and operation have in common. Safe in any thread.

    Args:
        called: as spans have it.
        model: its name as metrics have it.
        version: the same of the version; None where there is none.
        duration: counts the calls.
        rows: counts what they were given.
        decided: None where nobody counts decisions.
    """

    __slots__ = (
        "_attributes",
        "_durations",
        "_of_duration",
        "_rows",
        "called",
        "decided",
        "duration",
        "mine",
        "model",
        "shape",
    )

    def __init__(
        self,
        called: Called,
        model: str,
        version: str | None,
        duration: Histogram,
        rows: Counter,
        decided: Decided | None,
    ) -> None:
        self.called = called
        self.model = called.model
        self.decided = decided
        attributes: dict[str, AttributeValue] = {
            semconv.OTEL_PIPELINE_MODEL_NAME: model,
            semconv.OTEL_PIPELINE_INFERENCE_OPERATION: called.operation,
        }
        if version is not None:
            attributes[semconv.OTEL_PIPELINE_MODEL_VERSION] = version
        self._attributes, self._durations, self._rows = attributes, duration, rows
        self._of_duration = (
            {**attributes, semconv.OTEL_PIPELINE_INFERENCE_CLOCK: called.clock} if called.clock else attributes
        )
        self.duration = duration.local(self._of_duration)
        self.shape = SpanShape(f"predict {called.model}", SpanKind.INTERNAL, _described(called), DIFFERING)
        self.mine = _Mine(self)

    def row_cell(self) -> CounterCell:
        """Return the calling thread's cell of rows; from now on `mine` has it."""
        found = self.mine.rows = self._rows.local(self._attributes).cell
        return found

    def count(self, elapsed_ns: int, rows: int | None, error: BaseException | None = None) -> None:
        """Count a call that has ended."""
        mine = self.mine
        if rows:
            (mine.rows or self.row_cell()).value += rows
        if error is None:
            mine.duration(elapsed_ns / 1e9)
        else:
            attributes = {**self._of_duration, semconv.ERROR_TYPE: error_type(error)}
            self._durations.local(attributes).cell.record(elapsed_ns / 1e9)


def _described(called: Called) -> dict[str, AttributeValue]:
    """Return what stands on every span of these calls."""
    attributes: dict[str, AttributeValue] = {
        semconv.OTEL_PIPELINE_MODEL_NAME: called.model,
        semconv.OTEL_PIPELINE_INFERENCE_OPERATION: called.operation,
    }
    if called.version:
        attributes[semconv.OTEL_PIPELINE_MODEL_VERSION] = called.version
    if called.library:
        attributes[semconv.OTEL_PIPELINE_MODEL_LIBRARY] = called.library
    return attributes

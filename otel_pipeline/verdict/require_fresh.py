"""`otel_pipeline.require_fresh`: no decision on stale data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from opentelemetry.trace import get_current_span

from otel_pipeline import semconv
from otel_pipeline.detectors.objectives import ObjectiveCounts
from otel_pipeline.detectors.settings import Objective
from otel_pipeline.duration import seconds
from otel_pipeline.engine.batch import origin_in_hand
from otel_pipeline.engine.guard import place_in_force, step_aside
from otel_pipeline.engine.scope import decorate

if TYPE_CHECKING:
    from types import TracebackType

    from otel_pipeline.engine.guard import Guard, Place
    from otel_pipeline.engine.totals import Counter

F = TypeVar("F", bound=Callable[..., Any])
OnStale = Literal["raise", "flag"]
_MAX_NAMES = 20


class StaleDataError(Exception):
    """The data in hand is older than `require_fresh` allows. Ages in s."""

    def __init__(self, age_s: float, threshold_s: float) -> None:
        self.age_s = age_s
        self.threshold_s = threshold_s
        super().__init__(f"the oldest data in hand is {age_s:.3g} s old; at most {threshold_s:g} s is allowed")


class _Counted:
    """Where the checks of one pipeline are counted."""

    def __init__(self, counter: Counter, guard: Guard) -> None:
        self._counter = counter
        self.place = guard.place("require_fresh")
        self._known: dict[float, ObjectiveCounts] = {}

    def count(self, threshold_s: float, age_s: float | None) -> None:
        counts = self._known.get(threshold_s)
        if counts is None:
            name = f"require_fresh {threshold_s:g}s" if len(self._known) < _MAX_NAMES else "require_fresh"
            objective = Objective(name, threshold_s=threshold_s, objective=1.0)
            counts = self._known[threshold_s] = ObjectiveCounts(objective, self._counter)
        counts.count(None if age_s is None or age_s < 0 else age_s * 1000)


_counted: _Counted | None = None


def activate(counter: Counter | None, guard: Guard | None = None) -> None:
    """Set where checks are counted; called by `instrument()` and `uninstrument()`."""
    global _counted  # noqa: PLW0603 - one pipeline per process
    _counted = None if counter is None or guard is None else _Counted(counter, guard)


def _place() -> Place:
    return place_in_force("require_fresh")


class RequireFresh:
    """One use of `require_fresh`."""

    __slots__ = ("_on_stale", "_threshold_s", "age_s")

    def __init__(self, threshold_s: float, on_stale: OnStale) -> None:
        self._threshold_s = threshold_s
        self._on_stale = on_stale
        self.age_s: float | None = None
        """How old the data was, s; None when that is not known."""

    @property
    def stale(self) -> bool:
        """Whether the data was too old."""
        return self.age_s is not None and self.age_s > self._threshold_s

    def check(self) -> RequireFresh:
        """Look at the data in hand now. Raises `StaleDataError`, unless stale data is only to be flagged."""
        error = self.refusal()
        if error is not None:
            raise error
        return self

    def refusal(self) -> StaleDataError | None:
        """Look at the data in hand now; return what is to be raised."""
        try:
            self.age_s = age_s = self._measured()
            if age_s is not None and age_s > self._threshold_s and self._on_stale == "raise":
                return StaleDataError(age_s, self._threshold_s)
        except Exception:
            step_aside("require_fresh")
        return None

    def __enter__(self) -> RequireFresh:  # noqa: PYI034 - Self is not in Python 3.10
        return self.check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: the check was made at the beginning."""

    async def __aenter__(self) -> RequireFresh:  # noqa: PYI034
        return self.check()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: the check was made at the beginning."""

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind: each call checks first."""
        return decorate(function, lambda _args, _kwargs: _Checked(self._threshold_s, self._on_stale), _place)

    def _measured(self) -> float | None:
        counted = _counted
        if counted is None or counted.place.off:
            return None
        origin = origin_in_hand()
        age_s = None if origin is None or origin.doubted else origin.age_s
        counted.count(self._threshold_s, age_s)
        if age_s is not None:
            span = get_current_span()
            if span.is_recording():
                span.set_attribute(semconv.OTEL_PIPELINE_DATA_AGE, age_s)
                span.set_attribute(semconv.OTEL_PIPELINE_DATA_STALE, age_s > self._threshold_s)
        return age_s


class _Checked:
    """The scope of a decorated call: the data is checked when it begins."""

    def __init__(self, threshold_s: float, on_stale: OnStale) -> None:
        self.refusal: Exception | None = RequireFresh(threshold_s, on_stale).refusal()

    def resume(self) -> None:
        """Do nothing: no context is made current."""

    def suspend(self) -> None:
        """Do nothing: no context is made current."""

    def finish(self, error: BaseException | None) -> None:
        """Do nothing: the check was made at the beginning."""

    def abandon(self) -> None:
        """Do nothing: nothing was begun."""


def require_fresh(threshold: str | float | timedelta, on_stale: OnStale = "raise") -> RequireFresh:
    """Refuse decisions on stale data: raise `StaleDataError`, or flag it, where the oldest data in hand is too old.

        with otel_pipeline.require_fresh("2s"):
            decide(model(rows))

        @otel_pipeline.require_fresh("2s", on_stale="flag")
        def score(rows): ...

        if otel_pipeline.require_fresh("2s", "flag").check().stale:
            return fallback()

    Every check is counted in `otel_pipeline.slo.events`; data whose age is not known passes and is counted as unknown.
    Without `instrument()` it does nothing.

    Args:
        threshold: the oldest that is allowed: "500ms", "2s", s as a number, or a timedelta.
        on_stale: "raise", or "flag": `otel_pipeline.data.stale` on the current span.

    Raises:
        ValueError: the threshold is no duration.

    Safe in any thread and task.
    """
    if isinstance(threshold, timedelta):
        threshold_s = threshold.total_seconds()
    else:
        threshold_s = seconds(threshold) if isinstance(threshold, str) else float(threshold)
    if threshold_s <= 0:
        raise ValueError("require_fresh: give a threshold above 0, such as 500ms or 2s")
    if on_stale not in ("raise", "flag"):
        raise ValueError("require_fresh: on_stale is raise or flag")
    return RequireFresh(threshold_s, on_stale)

"""Probability sampling by thresholds in the tracestate, compiled: what the SDK's composite samplers decide and hand on.

https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/. Where the tracestate says no more of
sampling than a threshold, two numbers decide. What says more, or says it wrongly, the sampler itself is asked about.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import set_span_in_context
from opentelemetry.trace.span import TraceState

from otel_pipeline.engine.ids import getrandbits, randrange
from otel_pipeline.engine.span_shape import KnownIds
from otel_pipeline.engine.trace_context import LightSpan
from otel_pipeline.engine.w3c import MAX_TRACESTATE_MEMBERS
from otel_pipeline.export.sampling import KeepsTraceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

    from otel_pipeline.engine.trace_context import Ids

_EXPERIMENTAL = "opentelemetry.sdk.trace._sampling_experimental"
_RANDOMNESS = (1 << 56) - 1
"""Of a trace id, where the tracestate has none of its own."""
_NEVER = -1
_SAMPLED = 1
_DIGITS = 14
_HEX = "0123456789abcdef"
MAX_KNOWN = 256
"""How many texts of others' thresholds are remembered, with what they mean."""

Parents: TypeAlias = Literal["ignored", "threshold", "flag"]
"""What decides of a span that has a parent: the sampler's own threshold; the parent's, or where that has none its flag;
the flag alone."""


class Rule(NamedTuple):
    """How a sampler decides by a threshold."""

    threshold: int
    """A new trace is recorded whose randomness is not below it; `_NEVER` for none."""
    text: str
    """The same as the tracestate has it."""
    parents: Parents
    is_told: bool
    """Whether the sampler gets to know the parent's tracestate: the SDK's tracer does not tell (#5578)."""


def rule_of(sampler: Sampler) -> Rule | None:
    """Return how a composite sampler of the SDK decides; None for another one, or one that looks at more than this."""
    kept = sampler._sampler if type(sampler) is KeepsTraceState else sampler
    experimental: Any = sys.modules.get(_EXPERIMENTAL)
    if experimental is None or type(kept) is not type(experimental.composite_sampler(_always(experimental, "on"))):
        return None
    composed: Any = kept
    delegate = composed._delegate
    parents: Parents = "ignored"
    by_parent = type(experimental.composable_parent_threshold(_always(experimental, "on")))
    while type(delegate) is by_parent:
        delegate, parents = delegate._root_sampler, "threshold"
    fixed = (
        experimental.composable_traceid_ratio_based(1.0),
        _always(experimental, "on"),
        _always(experimental, "off"),
    )
    if type(delegate) not in map(type, fixed):
        return None
    is_told = kept is not sampler or _tells()
    state = kept.should_sample(None, _RANDOMNESS, "").trace_state  # The highest randomness that there is.
    text = state["ot"] if state else ""
    threshold = _threshold(text)
    return Rule(_NEVER if threshold is None else threshold, text, parents, is_told)


def _always(experimental: Any, what: str) -> Any:
    return getattr(experimental, f"composable_always_{what}")()


class _Listening(Sampler):
    """Hears whether a tracer tells a sampler of the parent's tracestate."""

    heard = False

    def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
        self.heard = len(arguments) > 6 or named.get("trace_state") is not None  # noqa: PLR2004 - the seventh parameter
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return ""


def _tells() -> bool:
    listening = _Listening()
    tracer = TracerProvider(listening, shutdown_on_exit=False).get_tracer(__name__)
    tracer.start_span("", set_span_in_context(LightSpan(1, 1, 1, True, lambda: _state("th:8")), Context()))
    return listening.heard


def _threshold(text: str) -> int | None:
    """Read a member `ot` that has a threshold and nothing else, written as the SDK writes it; None for any other."""
    digits = text[3:]
    if text[:3] != "th:" or not 0 < len(digits) <= _DIGITS or digits.strip(_HEX):
        return None
    if digits[-1] == "0" and digits != "0":
        return None
    return int(digits, 16) << 4 * (_DIGITS - len(digits))


class Thresholds:
    """Decides as a rule says. Safe in any thread.

    Args:
        sampler: what the rule is of.
        rule: how it decides.
        random: the flag of random trace ids, where the provider's are.
    """

    def __init__(self, sampler: Sampler, rule: Rule, random: int) -> None:
        self._sampler = sampler
        self._threshold, self._text, self._parents, self._is_told = rule
        self._random = random
        self._own_state = _state(self._text) if self._text else None
        self._of_roots = _reading(self._own_state)
        self._known: dict[str, int] = {}

    def samples_root(self, trace_id: int) -> bool:
        """Decide of a new trace with this id."""
        return 0 <= self._threshold <= trace_id & _RANDOMNESS

    def draw(self) -> int:
        """Return the lower 64 bits of an id of a new trace that is recorded."""
        least = max(self._threshold, 0)
        return getrandbits(8) << 56 | least + randrange(_RANDOMNESS + 1 - least) if least else getrandbits(64)

    def dropped_ids(self, parent: Span | None) -> Ids | None:
        """Return the ids of a span under this parent that is not recorded; None for one that is."""
        if isinstance(parent, KnownIds):
            trace_id, flags = parent.trace_id, parent.flags
        elif parent is not None and (context := parent.get_span_context()).is_valid:
            trace_id, flags = context.trace_id, context.trace_flags
        else:
            low = getrandbits(64)
            if 0 <= self._threshold <= low & _RANDOMNESS:
                return None
            return getrandbits(64) << 64 | low, getrandbits(64) or 1, self._random, None
        recorded, state = self._decide(parent, trace_id, flags)
        return None if recorded else (trace_id, getrandbits(64) or 1, flags & self._random, _reading(state))

    def handed_on(self, parent: Span | None, trace_id: int, flags: int) -> Callable[[], TraceState | None] | None:
        """Return how to read the tracestate of a span that is recorded; `parent` is None for a new trace."""
        return self._of_roots if parent is None else _reading(self._decide(parent, trace_id, flags)[1])

    def _decide(self, parent: Any, trace_id: int, flags: int) -> tuple[bool, TraceState | None]:
        """Tell whether a span under this parent is recorded, and its tracestate."""
        state = _state_of(parent) if self._is_told or self._parents == "flag" else None
        if self._parents == "flag":
            return bool(flags & _SAMPLED), state
        text: str | None = None
        given = _NEVER
        if state is not None:
            text = state.get("ot")
            if text is not None:
                known = self._known.get(text)
                if known is None and (known := self._learn(text)) is None:
                    return self._ask(parent, trace_id)
                given = known
            elif len(state) >= MAX_TRACESTATE_MEMBERS:
                return self._ask(parent, trace_id)
        threshold, is_exact = self._threshold, True
        ours: str | None = self._text
        if self._parents == "threshold":
            ours, is_exact = text, given >= 0
            threshold = given if is_exact else 0 if flags & _SAMPLED else _NEVER
        recorded = 0 <= threshold <= trace_id & _RANDOMNESS
        if not recorded or not is_exact or not ours:
            return recorded, state
        if not state:
            return True, self._own_state
        return True, state if ours == text and next(iter(state)) == "ot" else state.update("ot", ours)

    def _learn(self, text: str) -> int | None:
        found = _threshold(text)
        if found is not None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[text] = found
        return found

    def _ask(self, parent: Span, trace_id: int) -> tuple[bool, TraceState | None]:
        result = self._sampler.should_sample(set_span_in_context(parent, Context()), trace_id, "")
        return result.decision is Decision.RECORD_AND_SAMPLE, result.trace_state


def _state(text: str) -> TraceState:
    return TraceState((("ot", text),))


def _reading(state: TraceState | None) -> Callable[[], TraceState | None] | None:
    return (lambda: state) if state else None


def _state_of(parent: Any) -> TraceState | None:
    if isinstance(parent, KnownIds):
        if parent.read_state is None:
            return None
        if not isinstance(parent, LightSpan):
            return parent.read_state()
    found: TraceState | None = parent.get_span_context().trace_state  # Kept: what a message brought is read once.
    return found

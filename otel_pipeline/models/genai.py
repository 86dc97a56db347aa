"""Generative models: the official instrumentations, switched on when they are installed; nothing is written again."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_PREFIX = "opentelemetry-instrumentation-genai-"
# Those that came before the common prefix.
_OLDER = frozenset(
    f"opentelemetry-instrumentation-{name}"
    for name in ("openai-v2", "openai-agents-v2", "anthropic", "google-genai", "vertexai", "langchain", "weaviate")
)


def installed(points: Collection[EntryPoint] | None = None) -> Iterator[EntryPoint]:
    """The entry points of installed gen_ai instrumentations."""
    for point in points if points is not None else entry_points(group="opentelemetry_instrumentor"):
        distribution = (point.dist.name if point.dist is not None else "").lower().replace("_", "-")
        if distribution.startswith(_PREFIX) or distribution in _OLDER:
            yield point


def switch_on(point: EntryPoint) -> tuple[str, Callable[[], Any] | None]:
    """Switch one on. Returns what to say of it, and what switches it off again if we have switched it on."""
    instrumentor = point.load()()
    if instrumentor.is_instrumented_by_opentelemetry:
        return "instrumented", None
    # Without its client library there is a conflict of dependencies, which it would log as an error.
    if instrumentor._check_dependency_conflicts() is not None:
        return "skipped", None
    instrumentor.instrument(skip_dep_check=True)
    return "instrumented", instrumentor.uninstrument

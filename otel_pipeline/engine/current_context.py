"""The API's `get_current` and `attach`, without the Python calls in between.

OpenTelemetry keeps the current context in one `ContextVar`; where it is kept otherwise (`OTEL_PYTHON_CONTEXT` names
another runtime context), these are the API's own functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context as api
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context


def _functions() -> tuple[Callable[[], Context], Callable[[Context], Any]]:
    runtime: Any = getattr(api, "_RUNTIME_CONTEXT", None)
    variable: Any = getattr(runtime, "_current_context", None)
    if type(runtime) is not ContextVarsRuntimeContext or not hasattr(variable, "get"):
        return api.get_current, api.attach
    return variable.get, variable.set


get_current, attach = _functions()

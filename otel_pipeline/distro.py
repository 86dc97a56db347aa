"""Entry points for `opentelemetry-instrument`: the same as the one line, without a line of code.

Distro and configurator are chosen by others when several are installed; the instrumentor and the post hook run under
any distro, after the providers exist. What must happen happens there, and all of it is idempotent.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_CONFIGURATOR
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_pipeline.garbage import not_looked_for

if TYPE_CHECKING:
    from collections.abc import Collection

_LOGGER = logging.getLogger("otel_pipeline")


class PipelineDistro(BaseDistro):
    """Chooses our configurator, and skips the instrumentors of others that patch the same methods."""

    @functools.cached_property
    def _replaced(self) -> frozenset[str]:
        from otel_pipeline.registry import adapters

        # What lacks something replaces nobody unless it is asked for; then the post hook does.
        used = [adapter for adapter in adapters(lambda _key, _message: None) if not adapter.missing]
        return frozenset(name for adapter in used for name in adapter.replaces)

    def _configure(self, **_kwargs: Any) -> None:
        os.environ.setdefault(OTEL_PYTHON_CONFIGURATOR, "otel_pipeline")

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        """Load an instrumentor unless ours replaces it."""
        if entry_point.value in self._replaced and not _disabled():
            _LOGGER.info("otel_pipeline: %s is not loaded, ours instruments the same methods", entry_point.value)
            return
        super().load_instrumentor(entry_point, **kwargs)


class PipelineConfigurator:
    """Makes the providers before other instrumentors ask for them."""

    def configure(self, **_kwargs: Any) -> None:
        """Set everything up."""
        if not _disabled():
            _instrument({})


class PipelineInstrumentor(BaseInstrumentor):
    """Under any distro: instruments what our adapters know."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return none: each adapter checks its own client, so that a missing one does not switch off the others."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        _instrument(kwargs)

    def _uninstrument(self, **_kwargs: Any) -> None:
        from otel_pipeline import pipeline

        if pipeline._pipeline is not None:
            pipeline._pipeline.uninstrument()


def post_instrument() -> None:
    """Take off the instrumentors that patched the same methods, after all have run, whatever their order was."""
    # Where another distro is at work ours is not loaded for it.
    pipeline = sys.modules.get("otel_pipeline.pipeline")
    if pipeline is not None and pipeline._pipeline is not None:
        pipeline._pipeline.replace_others()


def _instrument(options: dict[str, Any]) -> None:
    with not_looked_for():
        from otel_pipeline.config.kinds import meant
        from otel_pipeline.greeting import leave_stderr_to_programs
        from otel_pipeline.pipeline import instrument

    leave_stderr_to_programs()
    known = {name for name in inspect.signature(instrument).parameters if not name.startswith("_")}
    for name in options.keys() - known:
        # They come unchecked out of OTEL_CONFIG_FILE.
        said = ", ".join(sorted(known))
        _LOGGER.warning("otel_pipeline: unknown option %r; known are %s%s", name, said, meant(name, known))
    instrument(**{name: value for name, value in options.items() if name in known})


def _disabled() -> bool:
    """Tell whether our own instrumentor is on OpenTelemetry's list of disabled ones."""
    listed = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    return not {"*", "otel_pipeline"}.isdisjoint(name.strip() for name in listed)

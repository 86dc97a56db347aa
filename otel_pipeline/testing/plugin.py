"""pytest plugin, loaded by its entry point: the `telemetry` fixture. Imports nothing until a test asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.testing.telemetry import Telemetry


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    r"""Everything that is recorded during the test, in memory: counted ids, a counted clock, nothing exported.

    def test_the_model_call_is_in_the_messages_trace(telemetry):
        telemetry.instrument()
        handle(record)
        assert telemetry.tree() == "process orders CONSUMER\\n  predict churn INTERNAL"
    """
    from otel_pipeline.testing.telemetry import shared

    recorded = shared()
    recorded.begin()
    try:
        yield recorded
    finally:
        recorded.end()

"""pytest plugin, loaded by its entry point: fixtures `telemetry` and `faults`. Imports nothing until a test asks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.testing.faults import Relay
    from otel_pipeline.testing.pipeline_flow import PipelineFlow
    from otel_pipeline.testing.telemetry import Telemetry


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    r"""Record everything during the test, in memory: counted ids, a counted clock, nothing exported.

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


@pytest.fixture
def faults() -> Iterator[Callable[..., Relay]]:
    """Make relays between two topics, started at once and stopped when the test ends; arguments as `Relay` has them.

    def test_losses_are_seen(faults):
        relay = faults(address, "orders", "orders-faulty", seed=7, drop=0.01)
    """
    from otel_pipeline.testing.faults import Relay

    with ExitStack() as stack:

        def started(bootstrap_servers: str, source: str, destination: str, **options: Any) -> Relay:
            return stack.enter_context(Relay(bootstrap_servers, source, destination, **options))

        yield started


@pytest.fixture
def pipeline_flow(telemetry: Telemetry) -> PipelineFlow:
    """Judge the health of the data that flows during the test; it instruments, like `telemetry.instrument()`.

    def test_orders_are_decided_on_fresh_and_whole(pipeline_flow):
        run_the_pipeline()
        pipeline_flow.assert_fresh("500ms")
        pipeline_flow.assert_in_order()
        pipeline_flow.assert_nothing_lost()
        pipeline_flow.assert_contract("orders")
    """
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    return PipelineFlow(telemetry)

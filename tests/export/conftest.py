"""A Collector that fails in every way."""

from __future__ import annotations

import pytest

from tests.export.fault_collector import FaultCollector


@pytest.fixture
def collector():
    made = FaultCollector()
    yield made
    made.end()


@pytest.fixture
def tls_collector():
    made = FaultCollector(tls=True)
    yield made
    made.end()

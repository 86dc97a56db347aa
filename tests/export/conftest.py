"""A Collector that fails in every way."""

from __future__ import annotations

import pytest

from otel_pipeline.testing import Collector
from tests.collected import CERTIFICATE


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


@pytest.fixture
def tls_collector():
    with Collector(certificate=CERTIFICATE) as made:
        yield made

"""Faults between two topics of a Kafka broker: what was injected is known exactly, so a detector can be judged by it.

As a command: `python -m otel_pipeline.testing.faults --help`.
"""

from otel_pipeline.testing.faults.options import FaultOptions, FaultsError
from otel_pipeline.testing.faults.plan import Injected
from otel_pipeline.testing.faults.relay import Relay

__all__ = ["FaultOptions", "FaultsError", "Injected", "Relay"]

"""Our metrics as Prometheus has them: names and labels as the Collector's exporter makes them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from otel_pipeline.testing import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
RULES = ROOT / "collector-config/prometheus-rules.yaml"
RULE_TESTS = ROOT / "collector-config/prometheus-rules.test.yaml"
DASHBOARD = ROOT / "collector-config/grafana-dashboard.json"

# From the resource: what otelcol-prometheus.yaml copies, and what the exporter and Prometheus add.
RESOURCE_LABELS = {"deployment_environment_name", "service_name", "job", "instance"}
UNITS = {"s": "seconds", "1": "ratio"}
PER_UNITS = {"s": "second"}

_MESSAGING = [
    *["messaging.system.name", "messaging.operation.name", "messaging.destination.name", "kafka.cluster.id"],
    *["server.address", "server.port", "error.type"],
]
_GROUP = "messaging.consumer.group.name"
# What of the semantic conventions we emit; our own are in the registry.
STANDARD = [
    ("messaging.client.sent.messages", "counter", "{message}", _MESSAGING),
    ("messaging.client.consumed.messages", "counter", "{message}", [*_MESSAGING, _GROUP]),
    ("messaging.client.operation.duration", "histogram", "s", [*_MESSAGING, "messaging.operation.type", _GROUP]),
    ("messaging.process.duration", "histogram", "s", [*_MESSAGING, _GROUP]),
]


@dataclass(frozen=True)
class Metric:
    """A metric as OpenTelemetry has it."""

    name: str
    instrument: str
    unit: str
    attributes: tuple[str, ...]

    @property
    def base(self) -> str:
        """Its name in Prometheus, before what is added for a histogram's parts."""
        words = [self.name.replace(".", "_"), *self._unit_words()]
        return "_".join([*words, "total"] if self.instrument == "counter" else words)

    @property
    def series(self) -> tuple[str, ...]:
        """The names that can be queried."""
        if self.instrument == "histogram":
            return tuple(f"{self.base}_{part}" for part in ("bucket", "sum", "count"))
        return (self.base,)

    @property
    def labels(self) -> set[str]:
        """The labels that its series can have."""
        own = {attribute.replace(".", "_") for attribute in self.attributes}
        return own | RESOURCE_LABELS | ({"le"} if self.instrument == "histogram" else set())

    def _unit_words(self) -> Iterator[str]:
        unit, _, per = re.sub(r"\{.*?\}", "", self.unit).partition("/")
        # A counter in 1 counts things and is no ratio.
        if unit and not (unit == "1" and self.instrument != "gauge"):
            yield UNITS[unit]
        if per:
            yield f"per_{PER_UNITS[per]}"


def metrics() -> list[Metric]:
    """Return all the metrics that we emit."""
    own = [(each.name, each.instrument, each.unit, each.attributes) for each in registry.metrics().values()]
    return [Metric(name, instrument, unit, tuple(attributes)) for name, instrument, unit, attributes in STANDARD + own]


def rules() -> list[dict[str, Any]]:
    """Return the rules of the file, over all groups."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels, without the rows that they are in."""
    return [panel for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if panel["type"] != "row"]

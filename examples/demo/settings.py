"""What the three services agree on: the broker, the topics, how much work there is. Nothing about telemetry."""

from __future__ import annotations

import os
from typing import Any

_PREFIX = os.environ.get("TOPIC_PREFIX", "")
RAW = f"{_PREFIX}digits.raw"
FEATURES = f"{_PREFIX}digits.features"
PREDICTIONS = f"{_PREFIX}digits.predictions"

MESSAGES = int(os.environ.get("MESSAGES", "1797"))
PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "0.002"))
# A service that waits this long for the next message gives up; whoever started it sees that some are missing.
IDLE_MS = int(os.environ.get("IDLE_MS", "30000"))

BROKER: dict[str, Any] = {"bootstrap_servers": os.environ.get("KAFKA_BOOTSTRAP", "127.0.0.1:9092")}
EMBEDDED = bool(os.environ.get("KAFKA_API_VERSION"))
if EMBEDDED:  # It needs the version said; a real broker is asked.
    BROKER["api_version"] = tuple(int(number) for number in os.environ["KAFKA_API_VERSION"].split("."))


def consumer_settings(group: str) -> dict[str, Any]:
    """Settings of a service's consumer. It reads from the beginning, so that it may start after the producer."""
    return {
        **BROKER,
        "group_id": _PREFIX + group,
        "auto_offset_reset": "earliest",
        "consumer_timeout_ms": IDLE_MS,
        # A real broker answers as soon as there is a message, the embedded one when the wait is over.
        "fetch_max_wait_ms": 10 if EMBEDDED else 500,
    }

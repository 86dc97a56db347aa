"""What the three services agree on: the broker, the topics, how much work there is. Nothing about telemetry."""

from __future__ import annotations

import os
import signal
import sys

_PREFIX = os.environ.get("TOPIC_PREFIX", "")
RAW = f"{_PREFIX}digits.raw"
FEATURES = f"{_PREFIX}digits.features"
PREDICTIONS = f"{_PREFIX}digits.predictions"

# What stands between a producer and its consumer writes to topics with this at their end, and consumers read those.
_RELAYED = os.environ.get("RELAYED_SUFFIX", "")

# 0: until it is asked to end.
MESSAGES = int(os.environ.get("MESSAGES", "1797"))
PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "0.004"))
# A service that waits this long for the next message gives up; whoever started it sees that some are missing.
IDLE_MS = int(os.environ.get("IDLE_MS", "30000"))

BOOTSTRAP = os.environ.get("KAFKA_BOOTSTRAP", "127.0.0.1:9092")
EMBEDDED = bool(os.environ.get("KAFKA_API_VERSION"))
# A real broker answers as soon as there is a message, the embedded one when the wait is over.
FETCH_MAX_WAIT_MS = 10 if EMBEDDED else 500


def group(name: str) -> str:
    """Return the name of a consumer group."""
    return _PREFIX + name


def read_from(topic: str) -> str:
    """Return the topic that consumers of this one read."""
    return topic + _RELAYED


def end_when_asked() -> None:
    """Let SIGTERM end a service in order, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

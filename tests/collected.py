"""What a `Collector` has taken, by what tests compare; and its faults by words that fit into a parameter."""

from __future__ import annotations

import socket
from pathlib import Path

CERTIFICATE = Path(__file__).parent / "export" / "certificate.pem"
"""Of 127.0.0.1 and localhost, signed by nobody, with its key; for tests alone."""


def names(collector):
    """Of the spans."""
    return [span.name for span in collector.spans()]


def bodies(collector):
    """Of the log records."""
    return [record.body for record in collector.logs()]


def points(collector):
    """How many points of metrics."""
    return sum(len(metric.points) for metric in collector.metrics())


def paths(collector):
    """Of all requests."""
    return [request.path for request in collector.requests]


def fail(collector, words):
    """From now on by `503`, `429:1` with Retry-After, or a fault's name; `ok` is none."""
    collector.recover()
    kind, _, after = words.partition(":")
    if kind.isdigit():
        collector.fault(int(kind), **({"retry_after": int(after)} if after else {}))
    elif kind != "ok":
        collector.fault(kind)


def refused_port():
    """A port where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]

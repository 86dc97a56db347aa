"""What a line of loguru costs until it is OTLP: ours beside loguru with the SDK's handler and encoder.

    python scripts/bench_logs.py [--rounds 15]

Thread CPU of a line, the least of some rounds of 1,000, without what loguru itself takes with a sink that does nothing.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from loguru import logger
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource

from otel_pipeline.engine.guard import Guard
from otel_pipeline.export import logs
from otel_pipeline.export.otlp.encoder import encode
from otel_pipeline.export.processors import CountedLogs

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 1_000
kept: list[Any] = []


class Keep(CountedLogs):
    """A processor that keeps records for whoever encodes them."""

    def __init__(self) -> None:
        pass

    def on_emit(self, log_record: Any) -> None:
        """Keep it."""
        kept.append(log_record)

    emit = on_emit

    def shutdown(self) -> None:
        """End nothing."""


def provider() -> LoggerProvider:
    """Make one that keeps."""
    made = LoggerProvider(Resource({"service.name": "bench"}), shutdown_on_exit=False)
    made.add_log_record_processor(Keep())
    return made


def nothing() -> None:
    """Write nowhere."""
    logger.add(lambda _message: None, format="{message}")


def official() -> None:
    """Hand loguru's lines to the handler of the official instrumentation, which was the SDK's."""
    try:
        from opentelemetry.instrumentation.logging.handler import LoggingHandler
    except ImportError:
        from opentelemetry.sdk._logs import LoggingHandler  # type: ignore[attr-defined, no-redef]
    logger.add(LoggingHandler(level=0, logger_provider=provider()), format="{message}")


def ours() -> None:
    """Connect as `instrument()` does."""
    logs.connect(
        provider(),
        "production",
        level=logging.INFO,
        guard=Guard(),
        when_imported=lambda name, act: act(sys.modules[name]) if name in sys.modules else None,
    )


def least(begin: Callable[[], None], write: Callable[[list[Any]], object], rounds: int) -> tuple[float, float]:
    """Return us a line to log it, and to encode it."""
    logger.remove()
    begin()
    logged, encoded = [], []
    for _ in range(rounds):
        kept.clear()
        before = time.thread_time()
        for number in range(LINES):
            logger.info("order {} is done", number)
        between = time.thread_time()
        write(list(kept))
        logged.append(between - before)
        encoded.append(time.thread_time() - between)
    return min(logged) / LINES * 1e6, min(encoded) / LINES * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    bare, _ = least(nothing, lambda _batch: None, rounds)
    theirs = least(official, lambda batch: encode_logs(batch).SerializeToString(), rounds)
    mine = least(ours, lambda batch: encode("logs", batch), rounds)
    print(f"loguru itself {bare:.1f} us a line")
    for name, (log, write) in (("official", theirs), ("ours", mine)):
        ratio = (log - bare + write) / (theirs[0] - bare + theirs[1])
        print(f"{name:9} adds {log - bare:.1f}, encodes in {write:.1f}, together {log - bare + write:.1f}: {ratio:.2f}")


if __name__ == "__main__":
    main()

"""The Collector of `endure.py`: it fails as it is told, and keeps no more than the ids of the spans that arrive.

    python scripts/endure_collector.py FOLDER

Its first line is its endpoint, as JSON. Each line on its standard input sets a fault, as JSON: its name or status and
its options, or null for none; it is answered by what has arrived. Ids go to FOLDER/arrived, 8 bytes each.
"""

from __future__ import annotations

import json
import sys
import threading
from array import array
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline.export.spool.halves import count
from otel_pipeline.testing import Collector

if TYPE_CHECKING:
    from otel_pipeline.dev.receiver import Request


class Arrived:
    """Counts what arrives. Safe in any thread."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "arrived").open("wb")
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.names: Counter[str] = Counter()

    def keep(self, request: Request) -> None:
        """Keep a request's ids and names; of other signals, how many items."""
        if request.path != "/v1/traces":
            signal = "logs" if request.path == "/v1/logs" else "metrics"
            found = count(signal, request.body)
            with self._lock:
                self.counts[signal] += found
            return
        traces = ExportTraceServiceRequest.FromString(request.body)
        spans = [span for group in traces.resource_spans for scope in group.scope_spans for span in scope.spans]
        ids = array("Q", [int.from_bytes(span.span_id, "big") for span in spans])
        with self._lock:
            ids.tofile(self._file)
            self._file.flush()
            self.counts["traces"] += len(ids)
            self.names.update(span.name for span in spans)


def main() -> int:
    """Run until the input ends."""
    arrived = Arrived(Path(sys.argv[1]))
    with Collector(keep=arrived.keep) as collector:
        print(json.dumps(collector.endpoint), flush=True)
        for line in sys.stdin:
            wanted = json.loads(line)
            collector.recover()
            if wanted is not None:
                collector.fault(wanted["kind"], **wanted["options"])
            print(json.dumps({"counts": arrived.counts, "names": arrived.names}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

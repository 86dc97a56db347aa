"""A service at a steady rate, for `endure.py`: sends, receives what it has sent, and makes spans of its own.

    python scripts/endure_application.py BOOTSTRAP FOLDER SPANS_PER_SECOND MESSAGES_PER_SECOND

Each line on its standard input is a question: it holds still for a moment and answers with one line of JSON. At the
end of the input it stops, hands over, and answers for the last time. The ids of the spans that it has made, as the
application itself sees them, go to FOLDER/made, 8 bytes each.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Any

import confluent_kafka
from opentelemetry import trace

import otel_pipeline

TOPIC = "endure"
TICK_S = 0.01
STILL_S = 0.3
"""How long is waited until the application's threads hold still: one may be inside of its client."""
EXACT_S = 5.0
WRITE_IDS = 8192
HANDING_OVER_S = 120.0


class Made:
    """What the application has made, as it sees it itself."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "made").open("wb")
        self._ids = array("Q")
        self._lock = threading.Lock()
        self.sends = self.failed_sends = self.undelivered = self.received = self.manual = self.logs = 0

    @property
    def spans(self) -> int:
        """How many spans there must be."""
        return self.sends + self.received + self.manual

    def note(self, *span_ids: int) -> None:
        """Keep ids of spans."""
        with self._lock:
            self._ids.extend(span_ids)
            if len(self._ids) > WRITE_IDS:
                self.write()

    def write(self) -> None:
        """Write what has been noted."""
        self._ids.tofile(self._file)
        self._file.flush()
        del self._ids[:]

    def counts(self) -> dict[str, int]:
        """Return how many there are of each kind."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class Application:
    """Its three threads: one that sends, one that receives, and one that makes what is missing to the rate."""

    def __init__(self, address: str, folder: Path, spans_per_s: float, messages_per_s: float) -> None:
        self.made = Made(folder)
        self._spans_per_s, self._messages_per_s = spans_per_s, messages_per_s
        self._begun_s, self._paused_s, self._still_since_s = time.monotonic(), 0.0, 0.0
        self._goes = threading.Event()
        self._goes.set()
        self._sends, self._ends = True, False
        self._tracer, self._log = trace.get_tracer("endure"), logging.getLogger("endure")
        common = {"bootstrap.servers": address, "log_level": 0}
        self._producer = confluent_kafka.Producer({**common, "linger.ms": 5, "queue.buffering.max.messages": 20_000})
        self._consumer = confluent_kafka.Consumer(
            {**common, "group.id": "endure", "auto.offset.reset": "earliest", "queued.max.messages.kbytes": 4096}
        )
        self._threads = [threading.Thread(target=each) for each in (self._send, self._receive, self._fill)]
        for thread in self._threads:
            thread.start()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._begun_s - self._paused_s

    def _send(self) -> None:
        """Send at the rate; what a full queue has cost is not owed."""
        made, let_go = self.made, 0.0
        while self._sends:
            self._goes.wait()
            due = self._elapsed_s() * self._messages_per_s - let_go
            until = made.sends + 2 * self._messages_per_s * TICK_S
            while made.sends < min(due, until):
                made.sends += 1
                try:
                    self._producer.produce(TOPIC, b'{"number": %d}' % made.sends, on_delivery=self._delivered)
                except BufferError:
                    made.failed_sends += 1
                    let_go += due - made.sends
                    break
            self._producer.poll(0)
            time.sleep(TICK_S)
        self._producer.flush(60)

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None:
            self.made.undelivered += 1

    def _receive(self) -> None:
        """Receive, and note the spans of the send and of the processing."""
        made, current = self.made, trace.get_current_span
        self._consumer.subscribe([TOPIC])
        while not self._ends:
            self._goes.wait()
            message = self._consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            made.received += 1
            parent = next(value for name, value in message.headers() if name == "traceparent")
            made.note(int(parent[36:52], 16), current().get_span_context().span_id)
        self._consumer.close()

    def _fill(self) -> None:
        """Make spans by hand for what is missing to the rate, and a log record for each hundred."""
        made = self.made
        while self._sends:
            self._goes.wait()
            missing = int(self._elapsed_s() * self._spans_per_s) - made.spans
            ids = []
            for _ in range(min(missing, int(2 * self._spans_per_s * TICK_S))):
                span = self._tracer.start_span("by hand", attributes={"number": made.manual, "kind": "filling"})
                ids.append(span.get_span_context().span_id)
                span.end()
                made.manual += 1
                if made.manual % 100 == 0:
                    self._log.info("made %d", made.manual)
                    made.logs += 1
            made.note(*ids)
            time.sleep(TICK_S)

    def still(self) -> None:
        """Hold still."""
        self._still_since_s = time.monotonic()
        self._goes.clear()
        time.sleep(STILL_S)

    def go_on(self) -> None:
        """Go on after `still`; what was not made meanwhile is not owed."""
        self._paused_s += time.monotonic() - self._still_since_s
        self._goes.set()

    def end(self) -> None:
        """Send no more, receive what is there, and stop."""
        self._sends = False
        self._threads[0].join()
        self._threads[2].join()
        received = -1
        while received != self.made.received:
            received = self.made.received
            time.sleep(10)
        self._ends = True
        self._threads[1].join()
        self.made.write()


def look(pipe: Any, made: Made) -> dict[str, Any]:
    """Look at the accounts until each is exact, or is not; each look is one of `status()`."""
    until_s, looks = time.monotonic() + EXACT_S, 0
    while True:
        looks += 1
        exports = pipe.status().exports
        accounts = {
            each.signal: {
                "started": each.started,
                "exported": each.exported,
                "queued": each.queued,
                "spooled": each.spooled,
                "dropped": dict(each.dropped),
                "error": each.last_error,
            }
            for each in exports
        }
        wrong = {
            each.signal: each.started - each.exported - each.queued - each.spooled - sum(each.dropped.values())
            for each in exports
        }
        if not any(wrong.values()) or time.monotonic() > until_s:
            return {"looks": looks, "wrong": wrong, "accounts": accounts, "made": made.counts(), "spans": made.spans}
        time.sleep(0.02)


def main() -> int:
    """Run until the input ends."""
    address, folder, spans_per_s, messages_per_s = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, filename=f"{folder}/application.log", format="%(asctime)s %(message)s")
    logging.getLogger("endure").propagate = True
    pipe = otel_pipeline.instrument("endure")
    application = Application(address, Path(folder), float(spans_per_s), float(messages_per_s))
    for _ in sys.stdin:
        application.still()
        said = look(pipe, application.made)
        application.go_on()
        print(json.dumps(said), flush=True)
    application.end()
    pipe.flush(HANDING_OVER_S)
    said = look(pipe, application.made)
    said["errors"] = dict(pipe.status().errors)
    print(json.dumps(said), flush=True)
    pipe.shutdown(HANDING_OVER_S)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How long a call takes on a CUDA device: until its result exists, by events on the stream that it was launched on.

A call returns when its work is queued. Two events, of a ring that is used again, stand before and after it; whoever
comes later, the next call or the health thread, asks whether the second has happened, and ends the call as of then.
Nothing here waits for the device, and nothing is ever synchronized.

The device's clock is set by the host's: an event has happened after it was recorded, and before it was seen to have
happened. The first of these bounds is close as soon as the queue has been empty once.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.inference import InferenceCall

PAIRS = 256
"""Of events, for each device: calls under way. One more is timed by the host."""
MAX_WAIT_S = 5.0
"""After which a call ends by the host's clock."""
ANEW_AFTER_S = 60.0
"""Of the reference that other events are measured from: a time of ms in 32 bits is exact to 4 us so long."""
_STREAMS = 64
_NS_PER_MS, _NS_PER_S = 1_000_000, 1_000_000_000


class Launched(NamedTuple):
    """A call whose work is queued."""

    call: InferenceCall
    before: Any
    after: Any
    began_ns: int
    """When it was called, monotonic."""
    queued_ns: int
    """When it had returned."""


class DeviceClock:
    """Times calls on one device. Safe in any thread.

    Args:
        cuda: `torch.cuda`, or what has its events and streams.
        device: its index.
        now_ns: the monotonic clock of calls.
        place: counts what fails.
    """

    def __init__(self, cuda: Any, device: int, now_ns: Callable[[], int], place: Place) -> None:
        self._cuda, self._device, self._now_ns, self._place = cuda, device, now_ns, place
        self._free = deque[tuple[Any, Any]]()
        self._made = 0
        self._waiting = deque[Launched]()
        self._lock = threading.Lock()
        self._reference: Any = None
        self._reference_ns = 0
        self._offset_ns: int | None = None
        """Monotonic time at which the reference happened, as late as events have shown."""
        self._streams: dict[int, Any] = {}

    def before(self) -> tuple[Any, Any] | None:
        """Record the event before a call; None where it is to be timed by the host, as during a graph's capture."""
        self.poll()
        cuda = self._cuda
        if cuda.current_device() != self._device or cuda.is_current_stream_capturing():
            return None
        pair = self._pair()
        if pair is not None:
            stream = self._stream()
            if self._reference is None or self._now_ns() - self._reference_ns > ANEW_AFTER_S * _NS_PER_S:
                self._refer(stream)
            pair[0].record(stream)
        return pair

    def after(self, pair: tuple[Any, Any], call: InferenceCall, began_ns: int) -> None:
        """Record the event after a call, which ends when that has happened."""
        queued_ns = self._now_ns()
        pair[1].record(self._stream())
        self._waiting.append(Launched(call, *pair, began_ns, queued_ns))

    def give_back(self, pair: tuple[Any, Any]) -> None:
        """Take the events of a call that has failed."""
        self._free.append(pair)

    def poll(self, *, last: bool = False) -> None:
        """End the calls whose results exist by now; with `last` all of them. Returns at once where another does so."""
        if not self._waiting or not self._lock.acquire(blocking=False):
            return
        try:
            while self._waiting:
                first = self._waiting[0]
                now_ns = self._now_ns()
                if first.after.query():
                    self._finish(first, now_ns)
                elif last or now_ns - first.queued_ns > MAX_WAIT_S * _NS_PER_S:
                    first.call.finish_timed(now_ns - first.began_ns, "host", first.queued_ns - first.began_ns)
                else:
                    break
                self._waiting.popleft()
                # Events that may still be to happen are not used again.
                if first.after.query():
                    self._free.append((first.before, first.after))
                else:
                    self._made -= 1
        except Exception:
            self._place.failed()
            self._waiting.clear()
        finally:
            self._lock.release()

    def _finish(self, done: Launched, now_ns: int) -> None:
        launch_ns = done.queued_ns - done.began_ns
        reference = self._reference
        if reference is None or not reference.query():
            done.call.finish_timed(now_ns - done.began_ns, "host", launch_ns)
            return
        began_ns = int(reference.elapsed_time(done.before) * _NS_PER_MS)
        ended_ns = int(reference.elapsed_time(done.after) * _NS_PER_MS)
        self._learn(done.began_ns - began_ns)
        self._learn(done.queued_ns - ended_ns, now_ns - ended_ns)
        offset_ns = self._offset_ns or 0
        # Not before its work was queued, nor after it was seen to be done: whatever the device's clock says.
        exists_ns = min(max(offset_ns + ended_ns, done.began_ns + ended_ns - began_ns), now_ns)
        done.call.finish_timed(exists_ns - done.began_ns, "device", launch_ns)

    def _learn(self, at_least_ns: int, at_most_ns: int | None = None) -> None:
        """Set the device's clock: its reference happened no earlier, and no later, than that."""
        if self._offset_ns is None or at_least_ns > self._offset_ns:
            self._offset_ns = at_least_ns
        if at_most_ns is not None and self._offset_ns > at_most_ns:
            self._offset_ns = at_most_ns

    def _refer(self, stream: Any) -> None:
        if self._waiting:
            return  # They are measured from the one that there is.
        self._reference = self._cuda.Event(enable_timing=True)
        self._reference_ns, self._offset_ns = self._now_ns(), None
        self._reference.record(stream)

    def _pair(self) -> tuple[Any, Any] | None:
        try:
            return self._free.popleft()
        except IndexError:
            if self._made >= PAIRS:
                return None
            self._made += 1
            return self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True)

    def _stream(self) -> Any:
        """Return the current stream; by its handle, where there is a way to ask for that: it is four times as fast."""
        handle_of = getattr(self._cuda, "current_raw_stream", None)
        if handle_of is None:
            return self._cuda.current_stream()
        handle = handle_of(self._device)
        found = self._streams.get(handle)
        if found is None:
            if len(self._streams) >= _STREAMS:
                self._streams.clear()
            found = self._streams[handle] = self._cuda.current_stream()
        return found

"""A device that answers later, of which torch.cuda's events tell: simulated, exactly; nothing waits for it."""

from __future__ import annotations

import pytest

from otel_pipeline.engine.guard import Guard
from otel_pipeline.models.cuda import ANEW_AFTER_S, MAX_WAIT_S, PAIRS, DeviceClock

MS = 1_000_000


class Device:
    """A queue of work and a clock of its own; `torch.cuda`, as far as it is used. It has no `synchronize`."""

    def __init__(self):
        self.now_ns, self.free_at_ns, self.capturing, self.current, self.events = 10_000 * MS, 0, False, 0, 0

    def current_device(self):
        return self.current

    def is_current_stream_capturing(self):
        return self.capturing

    def current_stream(self):
        return self

    def Event(self, enable_timing):  # noqa: N802 - as torch calls it
        assert enable_timing
        self.events += 1
        return Event(self)

    def launch(self, host_ms, work_ms):
        """Queue work, which takes the host so long, and the device."""
        self.now_ns += int(host_ms * MS)
        self.free_at_ns = max(self.now_ns, self.free_at_ns) + int(work_ms * MS)


class Event:
    def __init__(self, device):
        self.device, self.happens_ns = device, None

    def record(self, stream):
        assert stream is self.device
        self.happens_ns = max(stream.now_ns, stream.free_at_ns)

    def query(self):
        return self.happens_ns is None or self.happens_ns <= self.device.now_ns

    def elapsed_time(self, other):
        assert self.query()
        assert other.query(), "torch raises where it has not happened"
        return (other.happens_ns - self.happens_ns) / MS


class Call:
    def __init__(self, at=0):
        self.at, self.told = at, []

    def finish_timed(self, elapsed_ns, clock, launch_ns):
        self.told.append((round(elapsed_ns / MS, 3), clock, round(launch_ns / MS, 3)))


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def guard():
    return Guard()


@pytest.fixture
def clock(device, guard):
    return DeviceClock(device, 0, lambda: device.now_ns, guard.place("torch"))


def made(clock, device, host_ms, work_ms):
    """One call; None where it is to be timed by the host."""
    call, began_ns = Call(), device.now_ns
    pair = clock.before()
    device.launch(host_ms, work_ms)
    if pair is None:
        return None
    clock.after(pair, call, began_ns)
    return call


def test_a_call_ends_when_its_result_exists(clock, device):
    """Not when it was queued, nor when somebody looked."""
    call = made(clock, device, 0.8, 12)
    clock.poll()
    early = list(call.told)
    device.now_ns += 500 * MS
    clock.poll()
    clock.poll()

    assert (early, call.told) == ([], [(12.8, "device", 0.8)])


def test_a_consumer_that_runs_ahead(clock, device):
    """Each of its calls waits for those before it: the last result exists when all of the work is done."""
    calls = [made(clock, device, 1, 12) for _ in range(60)]
    device.now_ns += 10_000 * MS
    clock.poll()

    assert (calls[0].told, calls[-1].told) == ([(13.0, "device", 1.0)], [(1 + 60 * 12 - 59, "device", 1.0)])


def test_the_next_call_ends_the_one_before(clock, device):
    """Nobody else has to look, and the same events serve all."""
    calls = []
    for _ in range(10):
        calls.append(made(clock, device, 0.1, 0.2))
        device.now_ns += 5 * MS

    assert [len(call.told) for call in calls] == [1] * 9 + [0]
    assert device.events == 3


def test_more_than_the_ring_holds(clock, device):
    """The host times what is beyond; the first ones are as good as before."""
    calls = [made(clock, device, 0.01, 100) for _ in range(PAIRS + 1)]

    assert (PAIRS, [call is None for call in calls].count(True), calls[-1]) == (256, 1, None)


@pytest.mark.parametrize(("waited_s", "expected"), [(4.999, []), (5.0, []), (5.001, ["host"])])
def test_how_long_it_is_waited_for(clock, device, waited_s, expected):
    """A device that hangs: after five seconds the call ends by the host's clock, and says so."""
    call = made(clock, device, 1, 60_000)
    device.now_ns += int(waited_s * 1000 * MS)
    clock.poll()

    assert (MAX_WAIT_S, [clock_of for _, clock_of, _ in call.told]) == (5.0, expected)


def test_where_nothing_can_be_measured(clock, device):
    """While a graph is captured, and where another device is the current one."""
    device.capturing = True
    captured = made(clock, device, 1, 1)
    device.capturing, device.current = False, 1
    elsewhere = made(clock, device, 1, 1)

    assert (captured, elsewhere, device.events) == (None, None, 0)


def test_a_replayed_graph(clock, device):
    """It is queued at once and takes as long as it takes."""
    call = made(clock, device, 0.018, 0.11)
    device.now_ns += MS
    clock.poll()

    assert call.told == [(0.128, "device", 0.018)]


def test_the_reference_is_made_anew(clock, device):
    """Where nothing is under way: the clock of events is exact for a minute."""
    made(clock, device, 0.1, 1)
    device.now_ns += int((ANEW_AFTER_S + 1) * 1000 * MS)
    call = made(clock, device, 0.1, 1)
    device.now_ns += 5 * MS
    clock.poll()

    assert (ANEW_AFTER_S, device.events, call.told) == (60.0, 4, [(1.1, "device", 0.1)])


def test_the_last_ones_end_where_the_program_does(clock, device):
    """By the host's clock, where the result does not exist yet."""
    call = made(clock, device, 1, 1_000)
    device.now_ns += 9 * MS
    clock.poll(last=True)

    assert call.told == [(10.0, "host", 1.0)]


def test_events_that_fail_harm_nothing(clock, device, guard):
    """It is counted, and nothing is kept of the calls."""
    call = made(clock, device, 1, 1)
    device.now_ns += 5 * MS
    Event.query, query = (lambda _self: 1 / 0), Event.query
    try:
        clock.poll()
    finally:
        Event.query = query

    assert (call.told, guard.errors) == ([], {"torch": 1})

"""At the end of the stack: what of ours has no room steps aside, and what the application gets is what it gets without us.

A replacement is one function more: where there is room for the client's own alone, the application's call is refused by
Python, as it is one call deeper without us. Nothing is half done then.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from opentelemetry.context import attach, get_current, set_value

import otel_pipeline
from otel_pipeline import flow
from tests.contract.test_injected_doors import HEADERS

pytestmark = pytest.mark.no_check
FRAMES = 60
NO_ROOM = "no room"


def in_extract():
    with otel_pipeline.extract(HEADERS, destination="orders"):
        return 1


def in_inference():
    with otel_pipeline.inference("churn") as call:
        call.rows = 1
        return 1


@otel_pipeline.inference("churn")
def decorated():
    return 1


@otel_pipeline.inference("churn")
def generator():
    yield 1


def in_flow():
    with flow.joined(flow.capture()):
        flow.input("features", age_s=1.0)
        return 1


def in_require_fresh():
    with otel_pipeline.require_fresh(1e9):
        return 1


BY_NAME = {
    "extract": in_extract,
    "inference": in_inference,
    "a function": decorated,
    "a generator": lambda: next(generator()),
    "inject": lambda: otel_pipeline.inject({"tenant": "7"})["tenant"],
    "flow": in_flow,
    "current": lambda: otel_pipeline.current() and None,
    "require_fresh": in_require_fresh,
}


def at(depth, act):
    return act() if depth == 0 else at(depth - 1, act)


def depth_here():
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def near_the_end(act):
    """What it gives with so many frames left, 1 to 60; and where the application's own context was not current then."""
    own, room = set_value("of the application", 7), sys.getrecursionlimit() - depth_here()
    given, left = [], []
    for frames in range(1, FRAMES + 1):
        attach(own)
        try:
            given.append(at(room - frames, act))
        except RecursionError:
            given.append(NO_ROOM)
        if get_current() is not own:
            left.append(frames)
    return given, left


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_called_by_name(telemetry, name):
    """Python has room for it wherever it has where nothing is instrumented, and nothing stays current."""
    act = BY_NAME[name]
    result = act()
    plain, _ = near_the_end(act)
    telemetry.as_in_production()
    telemetry.instrument()
    refused = plain.count(NO_ROOM)
    for given, left in (near_the_end(act), near_the_end(act)):
        room = given.count(NO_ROOM)
        assert (given, left) == ([NO_ROOM] * room + [result] * (FRAMES - room), [])
        assert room <= refused


def test_what_is_patched(telemetry):
    """Refused by Python where one frame less is left; no message is lost then, and none comes twice."""
    from tests.contract.drivers.in_memory import InMemory  # It is on the path while tests run.

    driver, refused, received = InMemory(SimpleNamespace(topic=lambda name: name)), [], []
    with ThreadPoolExecutor(1) as pool:
        for instrument in (None, telemetry.instrument):
            if instrument is not None:
                telemetry.as_in_production()
                instrument(libraries=["in-memory-broker"])
            reader = driver.reader("read")
            acts = {
                "publish": lambda: driver.send("sent", b"a"),
                "receive": lambda reader=reader: driver.read(reader.receive_one(), "offset"),
                "pool": lambda: pool.submit(int, "7").result(),
            }
            for _ in range(FRAMES + 1):
                driver.send("read", b"a")
            found = {name: [act(), *near_the_end(act)[0]] for name, act in acts.items()}
            refused.append({name: given.count(NO_ROOM) for name, given in found.items()})
            received.append([each for each in found["receive"] if each != NO_ROOM])
    driver.close()

    assert refused[1] == {name: count + 1 for name, count in refused[0].items()}
    assert received == [list(range(len(each))) for each in received]

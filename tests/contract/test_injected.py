"""An exception at each line of ours: the client is called once, and what it gave reaches the application once."""

from __future__ import annotations

import gc
import itertools
import os
import random

import pytest

from otel_pipeline.engine import guard as guards
from otel_pipeline.engine.client_objects import ClientObjects
from tests.contract.injection import Injection

EVERY = bool(os.environ.get("EVERY_LINE"))
"""`.ci/run` tries them all; else so many of each act, the same ones each time."""
OF_EACH_ACT = 12
AT_ONCE, AHEAD = 200, 20
"""Messages that are sent together for the acts to read, and how many there are before an act at least."""
tried_before = set()
"""(library, when, line): what drivers of one library have in common is tried with one of them."""


UNCOUNTED = (
    "contracts/",
    "engine/failure.py",
    "engine/headers.py",
    "engine/pipeline_header.py",
    "engine/trace_context.py",
    "export/log_values.py",
    "engine/span_shape.py",
    "export/recorded_span.py",  # what `describe` cannot say of a span is left out
)
UNCOUNTED_FUNCTIONS = {
    "__del__",
    "_change",
    "_destinations",
    "_futures",
    "_tell_loop",
    "take_back",
    "_message",
    "_time_ns",
    "_name_of",
    "_pairs",
    "plain_copy",
    "_origin_ms",
    "_encoded",
    "model_of",
    "_readable",
}
"""They take any exception, or `RuntimeError`, for a loop that is closed, a value, a header, a text that cannot be read, and read it another way or count that."""


def is_uncounted(file, _line, function):
    return file.startswith(UNCOUNTED) or function in UNCOUNTED_FUNCTIONS


def fail():
    raise RuntimeError("of ours")


@pytest.fixture
def injection():
    with Injection().in_place() as injection:
        yield injection


@pytest.fixture
def injected_driver(injection, driver):
    """The driver, whose threads are watched."""
    return driver


class Application:
    """What an application does with one client, one message at a time; each act says what is not as it should be."""

    def __init__(self, driver):
        self.driver = driver
        self.sent, self.to_read = driver.topic("sent"), driver.topic("read")
        driver.send(self.to_read, b"0")
        self.there = 1
        self.first = driver.send(self.sent, b"first")
        self.reader = driver.reader(self.to_read)
        self.next_sent, self.next_read, self.seen = itertools.count(1), 0, []
        self._tables = [each for each in gc.get_objects() if isinstance(each, ClientObjects)]

    def provide(self):
        """Send more to read before there is too little."""
        if self.there < self.next_read + AHEAD:
            more = range(self.there, self.there + AT_ONCE)
            self.driver.send_many(self.to_read, [b"%d" % number for number in more])
            self.there = more.stop

    def send(self):
        number, headers = next(self.next_sent), [("tenant", b"7")]
        offset = self.driver.send(self.sent, b"%d" % number, headers=headers)
        return None if (offset - self.first, headers) == (number, [("tenant", b"7")]) else (offset, headers)

    def receive(self):
        try:
            return self._one(self.reader.receive_one())
        finally:
            self.next_read += 1

    def loop(self):
        self.seen.clear()
        try:
            self.reader.loop(self.seen.append, 1)
            return self._one(*self.seen)
        finally:
            self.next_read += 1

    def _one(self, *messages):
        found = [self.driver.read(each, "value") for each in messages]
        return None if found == [b"%d" % self.next_read] else found

    def commit(self):
        self.reader.commit()

    def seek(self):
        self.reader.seek(self.next_read)

    def close(self):
        self.reader.close()

    def open(self):
        self.reader = self.driver.reader(self.to_read)

    def forget(self):
        """The engine's side of all clients is made anew: what happens at their first use happens again."""
        for table in self._tables:
            for client in self.driver.clients():
                table.forget(client)

    def acts(self):
        """(name, act, what is done before); what drivers of one library have in common is done by one of them."""

        def nothing():
            pass

        alone = {"Poll": (self.receive,), "Process": (self.loop,)}.get(type(self.driver).__name__)
        yield from (
            (f"{act.__name__} {when}", act, before)
            for act in alone or (self.send, self.receive, self.loop)
            for when, before in (("first", self.forget), ("again", nothing))
        )
        if alone:
            return
        if self.driver.can.commit:
            yield "commit", self.commit, nothing
        if self.driver.can.seek:
            yield "seek", self.seek, nothing
        yield "close", self.close, self.open

    def sent_values(self):
        """All that was sent, as somebody else reads it."""
        reader = self.driver.reader(self.sent)
        got = reader.receive_many(next(self.next_sent))
        reader.close()
        return [self.driver.read(message, "value") for message in got]


def chosen(library, name, lines):
    """All of them, or some: the first and the last, and others by chance that is the same each time."""
    when = name.partition(" ")[2]
    lines = [way for way in lines if (library, when, way) not in tried_before]
    tried_before.update((library, when, way) for way in lines)
    if EVERY or len(lines) <= OF_EACH_ACT:
        return lines
    return [lines[0], *random.Random(name).sample(lines[1:-1], OF_EACH_ACT - 2), lines[-1]]


def try_line(injection, application, way, act, before, pipe):
    """What reached the application, or that it was not counted; nothing where all is well."""
    application.provide()
    before()
    application.driver.inside(injection.trace)
    counted = sum(pipe._guard.errors.values())
    try:
        with injection.at(way, fail):
            found = act()
    except Exception as error:
        found = repr(error)
    if found is not None:
        return [found]
    silent = injection.hit and sum(pipe._guard.errors.values()) == counted
    return ["not counted"] if silent and not is_uncounted(*way[0]) else []


def try_each_line(injection, application, name, act, before, pipe):
    """What of it reached the application, or was not counted; how many lines were tried, and of how many."""
    lines, wrong, tried, inside = {}, [], 0, application.driver.inside
    for _ in range(2):
        application.provide()
        before()
        inside(injection.trace)
        with injection.at(None, None):
            found = act()
        lines |= injection.seen
        if found is not None:
            wrong.append((name, "without an exception", found))
    ways = chosen(application.driver.library, name, lines)
    for way in ways:
        # Now and then a client fails by itself, where it is closed at once; what is ours fails each time.
        found = try_line(injection, application, way, act, before, pipe) and try_line(
            injection, application, way, act, before, pipe
        )
        tried += injection.hit
        if found:
            wrong.append((name, way[:2], *found))
    return wrong, tried, len(ways)


@pytest.mark.no_check
@pytest.mark.xdist_group("injected")
def test_an_exception_at_any_line_is_ours_alone(injection, injected_driver, instrument, monkeypatch):
    """Each message is sent once, arrives once and unchanged, and what went wrong is counted."""
    monkeypatch.setattr(guards, "OFF_AFTER", 1_000_000)  # No place is switched off: each line is to be tried.
    pipe = instrument()
    application, wrong, tried, wanted = Application(injected_driver), [], 0, 0
    for name, act, before in application.acts():
        found, hit, ways = try_each_line(injection, application, name, act, before, pipe)
        wrong, tried, wanted = wrong + found, tried + hit, wanted + ways
    sent = application.sent_values()
    assert (wrong, sent) == ([], [b"first", *(b"%d" % number for number in range(1, len(sent)))])
    # Not each call takes the same way: what is fetched, which values are looked at, which of a pool's threads does it; a
    # share group's poll returns as many as it likes, and what is left of them takes no call.
    # Where another driver of the library has tried all but a few, these few are rare.
    seldom = {"AIO": 10, "Share": 100}
    part = next((part for word, part in seldom.items() if word in injected_driver.name), 2)
    assert tried > wanted / part or wanted < 50

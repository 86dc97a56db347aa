"""Values of the application's in log records that cannot be had, encoded or carried: that one is repaired, alone."""

from __future__ import annotations

import enum
import logging
import time

import pytest
from loguru import logger as loguru_logger

from tests.export.test_logs import ROOT, Listening
from tests.export.test_logs import logs as logs  # noqa: PLC0414 - a fixture
from tests.limits import below_at_above


def by_stdlib(text, **values):
    ROOT.warning(text, extra=values)


def by_loguru(text, **values):
    loguru_logger.bind(**values).warning(text)


def connect(logs):
    """Without pytest's own handlers, whose report halves of characters would break."""
    ROOT.handlers[:] = [Listening()]
    logs.connect()


@pytest.fixture(params=[by_stdlib, by_loguru], ids=["logging", "loguru"])
def log(request):
    return request.param


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no text")

    __str__ = __repr__


class Number(enum.IntEnum):
    ONE = 1


VALUES = {
    "half a character": ("a\ud800b", "a\ufffdb"),
    "a long text": ("x" * 50_000_000, "x" * 4_093 + "…"),
    "a big integer": (2**70, str(2**70)),
    "the largest": (2**63 - 1, 2**63 - 1),
    "one more": (2**63, str(2**63)),
    "the smallest": (-(2**63), -(2**63)),
    "one less": (-(2**63) - 1, str(-(2**63) - 1)),
    "digits without end": (10**5_000, "<int>"),
    "no text": (Unspeakable(), "<Unspeakable>"),
    "an exception without text": (ValueError(Unspeakable()), "<ValueError>"),
    "a list": ([1, 2], (1, 2)),
    "texts": (["a", "b\ud83d"], ("a", "b\ufffd")),
    "a list of big integers": ([1, 2**70], ("1", str(2**70))),
    "a list of everything": ([1, "a", None], "[1, 'a', None]"),
    "an empty list": ([], "[]"),
    "bytes": (b"\xff", "b'\\xff'"),
    "a dictionary": ({"a": 1}, "{'a': 1}"),
    "an enumeration": (Number.ONE, 1),
    "truth": (True, True),
    "a number": (1.5, 1.5),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_that_cannot_be_carried_are_repaired(logs, log, case):
    """That value alone; the record and all others are as they were."""
    value, carried = VALUES[case]
    connect(logs)
    log("before")
    log("with", value=value)
    log("after")

    assert [record.body for record in logs.exported] == ["before", "with", "after"]
    assert logs.exported[1].attributes["value"] == carried
    assert logs.problems == []


@below_at_above("export.log_values.MAX_ITEMS", 128, 127, 128, 128)
def test_items_of_a_list(logs, size, outcome):
    """The first 128."""
    connect(logs)
    ROOT.warning("x", extra={"value": list(range(size))})

    assert list(logs.exported[0].attributes["value"]) == list(range(outcome))


@below_at_above("export.log_values.MAX_LOG_TEXT_BYTES", 65_536, "x" * 65_535, "x" * 65_536, "x" * 65_533 + "…")
def test_a_long_message(logs, size, outcome):
    """64 kB: it is what the application wants to read."""
    connect(logs)
    ROOT.warning("x" * size)

    assert logs.exported[0].body == outcome


def test_names_and_messages_that_cannot_be_carried(logs):
    """Of attributes, loggers, levels, and of what is logged."""
    connect(logs)
    logging.getLogger("app\ud800").warning("half %s", "\ud83d", extra={"name\ud800": 1, 7: 2})
    logging.getLogger("app").warning(Unspeakable())
    loguru_logger.info("half \udfff")
    records = logs.exported

    assert [record.body for record in records] == ["half \ufffd", "<Unspeakable>", "half \ufffd"]
    assert {"name\ufffd": 1, "7": 2}.items() <= dict(records[0].attributes).items()


@pytest.mark.parametrize("log", [logging.exception, loguru_logger.exception], ids=["logging", "loguru"])
def test_an_exception_of_the_applications_keeps_its_text(logs, log):
    """It is what the application records itself: 64 kB of its stack, whose end says most, 4 kB of its text."""
    connect(logs)
    for error in (ValueError("y" * 100_000), ValueError("half \ud83d"), ValueError(Unspeakable())):
        try:
            raise error
        except ValueError:
            log("failed")
    attributes = [record.attributes for record in logs.exported]

    assert [each["exception.message"] for each in attributes] == ["y" * 4_093 + "…", "half \ufffd", "<ValueError>"]
    assert [len(each["exception.stacktrace"].encode()) <= 65_536 for each in attributes] == [True] * 3
    assert [each["exception.stacktrace"].rstrip()[-1] for each in attributes] == ["y", "\ufffd", ">"]


@pytest.mark.parametrize("created", [-1.0, float("nan"), float("inf"), 1e30, "no time", None])
def test_a_time_that_cannot_be_is_now(logs, created):
    """A record that the application has made itself, or restored."""
    connect(logs)
    record = logging.makeLogRecord({"msg": "x", "levelno": logging.WARNING, "levelname": "WARNING"})
    record.created = created
    before = time.time_ns()
    ROOT.callHandlers(record)

    (found,) = logs.exported
    assert before <= found.timestamp <= time.time_ns()

"""What is said of telemetry that does not arrive: a line when that begins and a line when it ends."""

from __future__ import annotations

import logging
import os

import pytest

from otel_pipeline.export.causes import REFUSED, TIMEOUT
from otel_pipeline.export.losses import Losses
from tests.limits import below_at_above

BEGINS = (
    "otel_pipeline: traces do not arrive at x: nobody listens there; start a Collector, or set "
    "OTEL_EXPORTER_OTLP_ENDPOINT to one. What is lost is counted: status()"
)


@pytest.fixture
def clock():
    class Clock:
        now_s = 1000.0

        def __call__(self):
            return self.now_s

    return Clock()


@pytest.fixture
def losses(clock):
    return Losses(clock)


@pytest.fixture
def lines(caplog):
    def read():
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    caplog.set_level(logging.INFO)
    return read


def test_one_line_each_way(losses, clock, lines):
    """However many batches are lost, for whatever cause."""
    losses.lost("x", "traces", REFUSED, 512)
    assert lines() == [BEGINS]

    losses.lost("x", "traces", TIMEOUT, 512)
    losses.lost("x", "metrics", REFUSED, 1)
    clock.now_s += 1234
    assert lines() == []

    losses.arrived("x", "traces")
    assert lines() == []
    losses.arrived("x", "metrics")
    losses.arrived("x", "metrics")
    assert lines() == ["otel_pipeline: telemetry arrives at x again; 1 point, 1,024 spans lost in 1,234 s"]


def test_each_destination_by_itself(losses, lines):
    losses.lost("x", "traces", REFUSED, 1)
    losses.lost("y", "traces", REFUSED, 1)
    losses.arrived("y", "traces")

    assert lines() == [
        BEGINS,
        BEGINS.replace("at x", "at y"),
        "otel_pipeline: telemetry arrives at y again; 1 span lost in 0 s",
    ]


def test_what_is_written_instead_is_not_lost(losses, lines):
    losses.lost("x", "traces", REFUSED, 0, "they are written down")
    losses.arrived("x", "traces")

    assert lines() == [
        BEGINS.replace("What is lost is counted: status()", "Meanwhile they are written down."),
        "otel_pipeline: telemetry arrives at x again; nothing was lost in 0 s",
    ]


@below_at_above("export.losses.SAY_AGAIN_S", 60, 0, 2, 2)
def test_what_flaps_does_not_fill_the_log(losses, clock, lines, size, outcome):
    """A loss within a minute of the one before is not said; its counts are, with the next that is."""
    losses.lost("x", "traces", REFUSED, 1)
    losses.arrived("x", "traces")
    lines()
    clock.now_s += size
    losses.lost("x", "traces", REFUSED, 2)
    losses.arrived("x", "traces")
    assert len(lines()) == outcome

    clock.now_s += 61
    losses.lost("x", "traces", REFUSED, 4)
    losses.arrived("x", "traces")
    lost = 6 if outcome == 0 else 4
    assert f" again; {lost} spans lost in " in lines()[1]


def test_what_lasts_is_said_after_the_minute(losses, clock, lines):
    losses.lost("x", "traces", REFUSED, 1)
    losses.arrived("x", "traces")
    losses.lost("x", "traces", REFUSED, 1)
    lines()
    clock.now_s += 60
    losses.lost("x", "traces", REFUSED, 1)

    assert lines() == [BEGINS]


def test_the_end_of_the_program_says_what_was_lost(losses, clock, lines):
    losses.lost("x", "traces", REFUSED, 512)
    clock.now_s += 3
    losses.ended("x", [("logs", 2, REFUSED)])
    losses.ended("x", [])

    assert lines() == [
        BEGINS,
        "otel_pipeline: the program ends, and telemetry does not arrive at x; 2 log records, 512 spans lost in 3 s",
    ]


def test_a_program_that_ends_before_the_first_export_has_failed(losses, lines):
    """The exporter was still trying."""
    losses.ended("x", [("traces", 5, REFUSED), ("logs", 1, REFUSED)])
    losses.ended("y", [])

    assert lines() == [
        (
            "otel_pipeline: the program ends, and 1 log record, 5 spans did not arrive at x: nobody listens there; start a "
            "Collector, or set OTEL_EXPORTER_OTLP_ENDPOINT to one."
        )
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_knows_of_no_loss(losses, lines):
    losses.lost("x", "traces", REFUSED, 1)
    lines()
    child = os.fork()
    if child == 0:
        code = 255
        try:
            losses.arrived("x", "traces")
            losses.ended("x", [])
            code = len(lines())
        finally:
            os._exit(code)

    assert os.waitpid(child, 0)[1] == 0


def test_an_application_whose_logging_raises(losses):
    class Raises(logging.Filter):
        def filter(self, record):
            raise ValueError

    raises = Raises()
    logging.getLogger("otel_pipeline").addFilter(raises)
    try:
        losses.lost("x", "traces", REFUSED, 1)
    finally:
        logging.getLogger("otel_pipeline").removeFilter(raises)

"""Whether a log is still the one that was read: a topic that was made anew, a log that was cut, a replica that is late."""

from __future__ import annotations

import pytest

from otel_pipeline.detectors.order import CUT, PartitionOrder
from otel_pipeline.detectors.pace import PartitionPace
from tests.limits import below_at_above

TAG = 7


class Reading:
    """One partition at one consumer: what fetches tell, and what reaches the application. A clock that the test moves."""

    def __init__(self, log="old"):
        self.now_s, self.log = 0.0, log
        self.order, self.pace = PartitionOrder(TAG, lambda: self.now_s), PartitionPace(0.0)
        self.pace.watched_by(self.order)

    def fetch(self, position, end, written=-1, start=0):
        self.pace.of_log(self.log)
        self.pace.fetched(self.now_s, self.now_s, position, end, written, start)

    def read(self, *offsets, producer=1, number=None):
        """Messages that a producer has numbered as the log has its offsets, or from this number on."""
        for at, offset in enumerate(offsets):
            self.order.one(offset, producer, offset + 1 if number is None else number + at, TAG)

    def pass_by(self, seconds, position):
        """Whoever looks once a second does."""
        for _ in range(seconds):
            self.now_s += 1
            self.pace.look(position, self.now_s, 5.0)

    def found(self):
        names = ("missing_before_broker", "missing_expired", "missing_offset_reset", "open", "redelivered", "rewound")
        names = (*names, "missing_skipped", "reordered", "duplicate", "firsts")
        counts = {name: value for name in names if (value := getattr(self.order, name))}
        return counts | ({"cut": self.order.log.cut} if self.order.log.cut else {})


@pytest.fixture
def reading():
    """A hundred messages of one producer were read to the end of the log."""
    made = Reading()
    made.fetch(0, 100)
    made.read(*range(100))
    made.fetch(100, 100)
    return made


def test_a_topic_that_was_made_anew_is_known_by_its_id(reading):
    """Offset 0 is no redelivery, the number 3 is a loss, and nothing of the old log is missed."""
    reading.log = "new"
    reading.order.out_of_range(100, "earliest")
    reading.fetch(0, 4)
    reading.read(0, 1, producer=2)
    reading.read(2, 3, producer=2, number=4)
    reading.order.close()
    reading.pass_by(30, 4)

    assert reading.found() == {"firsts": 2, "missing_before_broker": 1}


@pytest.mark.parametrize("told", ["out of range", "id", "nothing"])
def test_losses_in_a_topic_that_was_made_anew(told):
    """3,000 messages were read of the old one, and 20 of another producer's 1,520 are lost in the new one: all are found.

    A client of which nothing else is known sees messages that came before: they are redelivered, and no loss is made up.
    """
    reading = Reading(log="old" if told == "id" else None)
    if told == "id":
        reading.fetch(0, 3_000)
    reading.read(*range(3_000))
    if told == "out of range":
        reading.order.out_of_range(3_000, "earliest")
    elif told == "id":
        reading.log = "new"
        reading.fetch(0, 1_500)
    for offset, number in enumerate(number for number in range(1, 1_521) if number % 75 != 50):
        reading.read(offset, producer=2, number=number)
    reading.order.close()

    found = {"redelivered": 1_500, "firsts": 1} if told == "nothing" else {"missing_before_broker": 20, "firsts": 2}
    assert reading.found() == found


def test_messages_of_the_old_log_that_come_then_are_of_the_old_one(reading):
    """They were fetched before; the new log begins where an offset is seen for the second time."""
    reading.log = "new"
    reading.fetch(0, 4)
    reading.read(100, 101)
    reading.read(0, 1, number=102)

    assert reading.found() == {"firsts": 2}


@pytest.mark.parametrize("log", ["old", None])
@pytest.mark.parametrize("resumed", ["earliest", "latest"])
def test_a_position_beyond_the_log(resumed, log):
    """Where the topic is the same, its log was cut: twenty that were read are gone. Without an id nobody knows."""
    reading = Reading(log)
    reading.fetch(0, 100)
    reading.read(*range(100))
    reading.order.out_of_range(100, resumed)
    first = 0 if resumed == "earliest" else 80
    reading.fetch(first, 80)
    reading.read(*range(first, 80), 80, 81)
    reading.fetch(82, 120)
    before = reading.found()
    reading.pass_by(20, 82)

    assert before == {"firsts": 2}
    assert reading.found() == before | ({"cut": 20} if log else {})


def test_a_position_beyond_a_log_that_has_grown_since(reading):
    """How many are gone cannot be told, and nothing else is made up."""
    reading.order.out_of_range(100, "earliest")
    reading.fetch(0, 300)
    reading.read(*range(300))
    reading.pass_by(20, 300)

    assert reading.found() == {"firsts": 2}


def test_a_client_that_goes_back_to_where_the_logs_differ(reading):
    """As KIP-320 has it: nothing was out of range. The log is longer again when it is fetched from."""
    reading.fetch(80, 90)
    reading.read(*range(80, 90), number=101)
    reading.pass_by(20, 90)

    assert reading.found() == {"firsts": 2, "cut": 20}


@below_at_above("detectors.read_log.CERTAIN_AFTER_S", 10, {}, {"cut": 30}, {"cut": 30})
def test_an_end_below_what_was_read(reading, size, outcome):
    """Though no message comes."""
    reading.fetch(100, 70)
    reading.pass_by(size + 1, 100)

    assert reading.found() == {"firsts": 1} | outcome


def test_it_is_counted_once(reading):
    """And what comes then is new."""
    reading.fetch(100, 70)
    reading.pass_by(60, 100)
    reading.order.out_of_range(100, "latest")
    reading.fetch(70, 75)
    reading.read(*range(70, 75), number=101)
    reading.pass_by(60, 75)

    assert reading.found() == {"firsts": 2, "cut": 30}


def test_a_replica_that_is_late_for_a_moment(reading):
    """After a failover it ends below what was read; then it catches up."""
    reading.fetch(100, 70)
    reading.pass_by(9, 100)
    reading.fetch(100, 104)
    reading.pass_by(1, 100)
    reading.fetch(100, 70)
    reading.pass_by(9, 100)
    reading.fetch(100, 104)
    reading.read(100, 101)
    reading.pass_by(20, 102)

    assert reading.found() == {"firsts": 1}


def test_a_partition_that_comes_back_while_a_replica_is_late(reading):
    """A rebalance in a failover: it goes on with what the group has committed, and nothing was cut."""
    reading.fetch(90, 95)
    reading.order.assigned()
    reading.read(*range(90, 95))
    reading.fetch(95, 120)
    reading.pass_by(20, 95)

    assert reading.found() == {"firsts": 2}


def test_what_an_open_transaction_holds_back_was_not_cut(reading):
    """A consumer of committed messages is told of both ends."""
    reading.fetch(100, 70, 100)
    reading.pass_by(30, 100)

    assert reading.found() == {"firsts": 1}


def test_another_log_clears_a_suspicion(reading):
    """The new id comes with the metadata, some seconds after the messages."""
    reading.order.out_of_range(100, "earliest")
    reading.fetch(0, 4)
    reading.read(0, 1, 2, 3, producer=2)
    reading.pass_by(5, 4)
    reading.log = "new"
    reading.fetch(4, 4)
    reading.pass_by(30, 4)

    assert reading.found() == {"firsts": 2}


def test_the_application_goes_back_in_the_same_log(reading):
    """That is a rewind, whatever it sought before."""
    reading.order.sought()
    reading.order.out_of_range(1_000, "earliest")
    reading.fetch(0, 100)
    reading.read(*range(100))

    assert reading.found() == {"firsts": 1, "rewound": 100}


@pytest.mark.parametrize("pull", [1, 3])
def test_a_redelivery_is_one(reading, pull):
    """The log ends where it did."""
    reading.fetch(100, 100)
    reading.read(*range(100 - pull, 100))

    assert reading.found() == {"firsts": 1, "redelivered": pull}


def test_a_group_that_had_read_further_in_the_old_log(reading):
    """The partition comes back, with a position that the new log does not have."""
    reading.order.assigned()
    reading.order.out_of_range(5_000, "earliest")
    reading.log = "new"
    reading.fetch(0, 3)
    reading.read(0, 1, 2, number=1)

    assert reading.found() == {"firsts": 2}


def test_a_new_log_that_is_read_from_its_end_on(reading):
    """As a client does that takes it for the old one, cut: what is before was skipped."""
    reading.log = "new"
    reading.fetch(100, 40)
    reading.fetch(40, 40)
    reading.read(40, 41, number=101)

    assert reading.found() == {"firsts": 2, "missing_skipped": 40}


def test_an_answer_that_says_that_nothing_has_changed(reading):
    """The end is that of the answer before, which came before the new id was known."""
    reading.fetch(100, 40)
    reading.pace.of_log("new")
    reading.pace.fetched(0.0, 0.0, 40, None)

    assert (reading.found(), reading.pace.lag(40)) == ({"firsts": 1, "missing_skipped": 40}, 0)


def test_a_new_log_that_is_longer_than_the_old_one_was(reading):
    """The client does not notice at all."""
    reading.log = "new"
    reading.fetch(100, 300)
    reading.read(*range(100, 300))
    reading.fetch(300, 300)

    assert reading.found() == {"firsts": 1, "missing_skipped": 100}


def test_what_retention_has_taken_of_a_new_log_was_not_skipped(reading):
    """It counts from where the log begins."""
    reading.log = "new"
    reading.fetch(150, 300, start=140)

    assert reading.found() == {"firsts": 1, "missing_skipped": 10}


def test_a_new_log_of_which_the_application_chose_a_part(reading):
    """That is its own wish."""
    reading.order.sought()
    reading.log = "new"
    reading.fetch(60, 90)

    assert reading.found() == {"firsts": 1}


def test_what_was_read_of_a_new_log_before_its_id_was_known_was_not_skipped(reading):
    """It counts from the first message that was read of it."""
    reading.order.out_of_range(100, "earliest")
    reading.fetch(7, 50)
    reading.read(*range(7, 50), producer=2)
    reading.log = "new"
    reading.fetch(50, 50)

    assert reading.found() == {"firsts": 2, "missing_skipped": 7}


def test_the_log_that_is_read_first_is_no_new_one():
    """Whatever its id, and though its first messages come later."""
    reading = Reading()
    for end in (10, 20):
        reading.fetch(10, end)
    reading.read(*range(10, 20))
    reading.fetch(20, 20)

    assert reading.found() == {"firsts": 1}


def test_a_new_log_whose_old_one_was_never_read():
    """It was recreated between the first fetch and the first message."""
    reading = Reading()
    reading.fetch(0, 0)
    reading.log = "new"
    reading.fetch(0, 3)
    reading.read(0, 1, 2)

    assert reading.found() == {"firsts": 1}


def test_the_light(watching):
    """Amber, and said in messages."""
    found = watching()
    pace = found.consumer.fetch_observer("orders", 0)
    observer = found.deliver(*found.numbered(*range(1, 201)))
    pace.of_log("id")
    pace.fetched(0.0, 1.0, 200, 50, 50)
    found.at["orders", 0] = 200
    for _ in range(12):
        found.now_s += 1
        found.flows.look()
    light = found.lights()["order"]

    assert (found.evidence().counts[CUT], observer.order.redelivered) == (150, 0)
    assert (light.row, light.state, light.why) == (
        "log cut",
        "amber",
        "the log was cut: 150 messages that were read are gone",
    )

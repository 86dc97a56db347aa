"""What the lights say in situations of real pipelines, on a real broker: which colour, which status, which words, when.

The four most telling ones run side by side with every `make real`; all of them with `make situations`. The rules with
their limits are tried second by second in `tests/verdict/test_situations.py`, where nothing is slow.
"""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.real.stage import Stage

pytestmark = [pytest.mark.broker, pytest.mark.once]
ALWAYS = ("a crash loses", "a worker hangs", "partitions are added", "a backlog is worked off")
AT_ONCE = 4
GREEN = ("fresh", "order", "pace", "contract", "environment")


def a_crash_loses(stage):
    """Auto-commit, and hundreds of messages in a thread's queue: `--last` says that the killed process lost them."""
    topic = stage.topic()
    stage.writing(topic, 150)
    victim = stage.start("queues", topic, work_s=0.02, dies_at=300, settings={"auto_commit_interval_ms": 300})
    stage.until(lambda: victim.process.poll() is not None, 60)

    # What the broker has as committed and nobody has processed. The last verdict is a second or two old: since then some
    # were committed, and at 50 a second some were processed.
    lost = stage.committed(topic, f"queues-{topic}") - victim.all("dies")[0]["processed"] - 1
    code, text = stage.health("--last")
    told = re.search(r"red +gone without a goodbye .*; (\d+) messages committed and not begun, or not finished", text)
    assert (code, told is not None) == (1, True), text
    assert lost * 0.5 <= int(told[1]) <= lost + 100
    assert stage.colours("pace", topic) <= {"grey", "green", "amber"}


def a_worker_hangs(stage):
    """The loop polls on, the only worker hangs: amber 10 s later, red after 30 s, and at last nobody says 'caught up'."""
    topic = stage.topic()
    stage.writing(topic, 100)
    program = stage.start("queues", topic, work_s=0.002, hangs_at=300)
    stage.until(lambda: stage.first_s("red", "pace", topic), 90)

    hung_s = program.at_s("hangs")
    assert 28 <= stage.first_s("red", "pace", topic) - hung_s <= 45
    assert stage.now("pace", topic) == ("red", "stuck")
    assert "a message in hand for" in stage.of("pace", topic)[-1].why
    assert stage.health()[0] == 1


def partitions_are_added(stage):
    """Who begins at the beginning has all of a new partition, who begins at the end has not: green, and amber."""
    topic = stage.topic()
    stage.writing(topic, 50, producer=8)
    program = stage.start("two_groups", topic, settings={"metadata_max_age_ms": 9_000})
    stage.until(lambda: len(program.all("first")) == 2, 40)
    stage.add_partitions(topic, 3)
    stage.writing(topic, 40, partitions=3)
    stage.until(lambda: len(program.all("first")) == 6, 60)

    skipped = sum(each["offset"] for each in program.all("first") if each["group"] == "latest" and each["partition"])
    # Where it has looked at the topic's partitions in the tenth of a second before the first message, none is skipped.
    colour, words = ("amber", f"{skipped:,} messages were skipped") if skipped else ("green", "in order")
    stage.until(lambda: stage.now("order", topic, "latest")[0] == colour, 20)
    stage.until(lambda: words in stage.of("order", topic, "latest")[-1].why, 5)
    stage.until(lambda: stage.now("order", topic, "earliest")[0] == "green", 20)
    assert stage.colours("order", topic, "earliest") <= {"grey", "green"}
    assert not any("red" in stage.colours(name, topic) for name in GREEN)


def a_backlog_is_worked_off(stage):
    """15,000 messages wait on 6 partitions for a healthy consumer that never rests: behind, and never stuck."""
    topic = stage.topic(6)
    stage.write(topic, 15_000, partitions=6)
    stage.start("reads", topic, work_s=0.001, assign=6, threshold="10m")
    stage.until(lambda: stage.now("pace", topic)[1] == "ok", 80)

    # The colour gets better half a minute later.
    said = [(each.state, each.status) for each in stage.of("pace", topic)]
    assert [each for each in said if each != ("grey", "unknown")] == [("amber", "behind"), ("amber", "ok")]
    assert stage.colours("fresh", topic) <= {"grey", "amber", "green"}
    assert stage.now("order", topic)[0] == "green"


def healthy(stage):
    """200 messages a second: everything green, and nothing else once there is evidence."""
    topic = stage.topic(3)
    stage.begun("reads", topic)
    stage.writing(topic, 200, partitions=3)
    _all_green(stage, topic)


def log_append_time(stage):
    """The same where the broker gives the messages their time."""
    topic = stage.topic(2, message_timestamp_type="LogAppendTime")
    stage.begun("reads", topic)
    stage.writing(topic, 200, partitions=2)
    _all_green(stage, topic)


def members_come_and_go(stage):
    """Cooperative rebalancing: green, or amber where messages are delivered again."""
    topic = stage.topic(6)
    how = {"group": "cooperative", "cooperative": True}
    first = stage.begun("reads", topic, **how)
    stage.writing(topic, 200, partitions=6)
    for _ in range(2):
        other = stage.start("reads", topic, **how)
        stage.until(lambda: other.all("begins"), 20)  # noqa: B023 - called at once
        time.sleep(10)
        other.end()
        time.sleep(5)

    first.end()
    for name in GREEN:
        assert stage.colours(name, topic) <= {"grey", "green", "amber"}, stage.told()
    assert stage.now("pace", topic)[0] == "green"
    assert "missing" not in stage.of("order", topic)[-1].why.replace("none missing", "")


def slow_and_keeping_pace(stage):
    """Each message takes 14 s, one comes every 20 s: it is never behind, so it is never red."""
    topic = stage.topic()
    program = stage.start("one_at_a_time", topic, work_s=14, threshold="60s")
    stage.until(lambda: stage.now("pace", topic)[0] == "green", 40)
    stage.writing(topic, 0.05)
    stage.until(lambda: len(program.all("processed")) == 3, 120)

    assert stage.colours("pace", topic) <= {"grey", "green", "amber"}
    assert {each.status for each in stage.of("pace", topic)} <= {"unknown", "ok", "behind", "stuck"}


def pauses(stage):
    """The application pauses its only partition for 25 s: amber 'paused', never 'stuck', and green after it."""
    topic = stage.topic()
    program = stage.begun("pauses", topic, after=500, for_s=25)
    stage.writing(topic, 100)
    stage.until(lambda: program.all("resumes"), 90)
    stage.until(lambda: stage.now("pace", topic) == ("green", "ok"), 50)

    assert {each.status for each in stage.of("pace", topic) if each.state == "amber"} <= {"paused", "behind", "ok"}
    assert 8 <= _first_s(stage, "paused", topic) - program.at_s("pauses") <= 20
    assert "red" not in stage.colours("pace", topic)


def a_batch_job(stage):
    """It drains every 20 s, without a group, and does not poll in between: not red."""
    topic = stage.topic()
    stage.writing(topic, 3)
    program = stage.start("batches", topic, group=None, assign=1, sleep_s=20, threshold="2h")
    stage.until(lambda: len(program.all("drained")) == 4, 120)

    assert stage.colours("pace", topic) <= {"grey", "green", "amber"}
    assert stage.colours("fresh", topic) <= {"grey", "green", "amber"}


def retries_and_dead_letters(stage):
    """Copied headers, there and back: green everywhere, and no number is judged in a topic that it is not of."""
    topics = [stage.topic(), stage.topic(), stage.topic()]
    stage.begun("retries", *topics, assign=1)
    stage.writing(topics[0], 150)
    stage.until(lambda: all(stage.now("fresh", each)[0] == "green" for each in topics), 60)
    time.sleep(10)

    for each in topics:
        for name in ("fresh", "order", "pace", "environment"):
            assert stage.colours(name, each) <= {"grey", "green"}, stage.told()


def a_producers_clock_is_behind(stage):
    """By 5 s, more than the objective: said as what it is, and not as late data."""
    topic = stage.topic(2)
    stage.writing(topic, 150, partitions=2, late_s=5.0)
    stage.start("reads", topic, assign=2)
    stage.until(
        lambda: any("its clock is behind, or it holds messages back" in each.why for each in stage.of("fresh", topic)),
        40,
    )

    assert stage.colours("fresh", topic) <= {"grey", "amber"}


def one_of_two_topics_is_late(stage):
    """One objective for all destinations, and data that is 10 s old on one of two: red there, green on the other."""
    late, new = stage.topic(), stage.topic()
    stage.writing(late, 100, origin_s=10.0)
    stage.writing(new, 100, producer=8)
    stage.start("reads", late, new)
    stage.until(lambda: stage.now("fresh", late)[0] == "red" and stage.now("fresh", new)[0] == "green", 40)

    assert stage.colours("fresh", new) <= {"grey", "green"}


def every_send_fails(stage):
    """The broker takes nothing that large: the producer's own light says so."""
    topic = stage.topic(max_message_bytes=200)
    stage.start("fails", topic)
    stage.until(lambda: stage.now("delivered", topic)[0] == "red", 40)

    assert "messages could not be delivered" in stage.of("delivered", topic)[-1].why
    assert stage.health()[0] == 1


def stopped_for_20_s(stage):
    """SIGSTOP and SIGCONT: while it lasts the command says that the process does not answer; no red stays."""
    topic = stage.topic()
    program = stage.begun("reads", topic)
    stage.writing(topic, 100)
    stage.until(lambda: stage.now("fresh", topic)[0] == "green", 40)
    program.process.send_signal(signal.SIGSTOP)
    time.sleep(20)
    code, text = stage.health()
    program.process.send_signal(signal.SIGCONT)

    assert (code, "the process does not answer: it wrote last" in text) == (1, True), text
    stage.until(lambda: stage.health()[0] == 0, 60)
    stage.until(lambda: stage.now("pace", topic) == ("green", "ok"), 60)


def the_clock_here_is_set(stage):
    """By an hour, for 15 s: all ages are unknown for as long, and no message is late; it is said why."""
    topic = stage.topic()
    program = stage.begun("clock_steps", topic, skew_s=15)
    stage.writing(topic, 100)
    for said in ("this machine's clock was set forward by", "this machine's clock was wrong until "):
        stage.until(lambda: any(each.why.startswith(said) for each in stage.of("fresh", topic)), 60)  # noqa: B023

    assert len(program.all("steps")) == 2
    assert stage.colours("fresh", topic) <= {"grey", "green"}
    assert stage.colours("pace", topic) <= {"grey", "green"}


def _all_green(stage, topic):
    stage.until(lambda: all(stage.now(name, topic)[0] == "green" for name in GREEN), 60)
    time.sleep(10)
    assert {name: stage.colours(name, topic) - {"grey"} for name in GREEN} == {name: {"green"} for name in GREEN}


def _first_s(stage, status, topic):
    return next(each.at_s for each in stage.of("pace", topic) if each.status == status)


SITUATIONS = {
    play.__name__.replace("_", " "): play
    for play in (
        a_crash_loses,
        a_worker_hangs,
        partitions_are_added,
        a_backlog_is_worked_off,
        healthy,
        log_append_time,
        members_come_and_go,
        slow_and_keeping_pace,
        pauses,
        a_batch_job,
        retries_and_dead_letters,
        a_producers_clock_is_behind,
        one_of_two_topics_is_late,
        every_send_fails,
        stopped_for_20_s,
        the_clock_here_is_set,
    )
}


@pytest.fixture(scope="module")
def played(request, real_broker, tmp_path_factory):
    """A function that waits for a situation; a few are played at the same time, by xdist's workers or by threads."""
    pytest.importorskip("confluent_kafka")
    folder = tmp_path_factory.mktemp("situations")

    def play(name):
        stage = Stage(real_broker.bootstrap, folder / name.replace(" ", "_"))
        try:
            SITUATIONS[name](stage)
        except AssertionError as error:
            error.args = (f"{error}\n{stage.told()}",)
            raise
        finally:
            stage.close()

    if "PYTEST_XDIST_WORKER" in os.environ:
        yield play
        return
    mine = [item for item in request.session.items if item.module is request.module]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = {name: pool.submit(play, name) for name in (item.callspec.params["name"] for item in mine)}
        yield lambda name: begun[name].result()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.situation, *([pytest.mark.real] if name in ALWAYS else [])])
        for name in SITUATIONS
    ],
)
def test_what_the_lights_say(played, name):
    """Each situation says itself what is right."""
    played(name)

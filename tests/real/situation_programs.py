"""The applications of the situations: `python situation_programs.py NAME {"address": ..., "topics": [...], ...}`.

Each ends when its input is closed. What it says is a line of JSON: an event, and what a test has to know of it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time

if "skew_s" in sys.argv[2]:  # This machine's clock is wrong; before anything else reads it.
    _SKEW_NS, _time, _time_ns = [0], time.time, time.time_ns
    time.time = lambda: _time() + _SKEW_NS[0] / 1e9
    time.time_ns = lambda: _time_ns() + _SKEW_NS[0]

import otel_pipeline

QUICK_MS = 200


def say(event, **what):
    # In one piece: several threads speak.
    sys.stdout.write(json.dumps({"event": event, **what}) + "\n")
    sys.stdout.flush()


class Application:
    """What all of them have in common.

    Args:
        said: the situation's choices: `address`, `topics`, `group`, and what the program itself asks for.
    """

    def __init__(self, **said):
        self.said = said
        self.topics = said["topics"]
        self._over = threading.Event()
        threading.Thread(target=self._read_input, daemon=True).start()

    def _read_input(self):
        sys.stdin.read()
        self._over.set()

    @property
    def goes_on(self):
        return not self._over.is_set()

    def consumer(self, *topics, **options):
        from kafka import KafkaConsumer, TopicPartition

        group, partitions = options.pop("group", self.said.get("group")), self.said.get("assign")
        settings = {"auto_offset_reset": "earliest", "consumer_timeout_ms": QUICK_MS, "group_id": group}
        settings |= {**self.said.get("settings", {}), **options}
        if self.said.get("cooperative"):
            from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

            settings["partition_assignment_strategy"] = [CooperativeStickyAssignor]
        found = KafkaConsumer(bootstrap_servers=self.said["address"], **settings)
        topics = topics or self.topics
        if partitions:
            found.assign([TopicPartition(topic, each) for topic in topics for each in range(partitions)])
        else:
            found.subscribe(list(topics))
        return found

    def polled(self, consumer, **how):
        return [record for records in consumer.poll(QUICK_MS, **how).values() for record in records]


def reads(application):
    """Iterates, and works as long on each message."""
    work_s, consumer = application.said.get("work_s", 0.0), application.consumer()
    say("begins")
    while application.goes_on:
        for _ in consumer:
            if work_s:
                time.sleep(work_s)
            if not application.goes_on:
                break
    consumer.close()


def two_groups(application):
    """Two consumers: one that begins at the beginning, one at the end."""

    def read(reset):
        consumer, first = application.consumer(group=reset, auto_offset_reset=reset), {}
        while application.goes_on:
            for record in consumer:
                if record.partition not in first:
                    first[record.partition] = record.offset
                    say("first", group=reset, partition=record.partition, offset=record.offset)
        consumer.close()

    threads = [threading.Thread(target=read, args=(reset,)) for reset in ("earliest", "latest")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def queues(application):
    """Polls, and hands everything to one worker that uses `process()`: the worker hangs, or the process is killed."""
    said, waiting, done = application.said, queue.Queue(), []
    consumer = application.consumer()

    def work():
        while True:
            record = waiting.get()
            with otel_pipeline.process(record):
                time.sleep(said["work_s"])
                if len(done) == said.get("hangs_at"):
                    say("hangs")
                    time.sleep(1_000)
            done.append(record.offset)

    threading.Thread(target=work, daemon=True).start()
    while application.goes_on:
        for record in application.polled(consumer):
            waiting.put(record)
        if len(done) >= said.get("dies_at", 1e9):
            say("dies", processed=done[-1])
            os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def pauses(application):
    """Pauses its partitions for a while, and polls on."""
    consumer, count, paused_s = application.consumer(), 0, None
    while application.goes_on:
        if paused_s is None and count > application.said["after"]:
            consumer.pause(*consumer.assignment())
            paused_s = time.monotonic()
            say("pauses")
        elif paused_s and time.monotonic() - paused_s > application.said["for_s"]:
            consumer.resume(*consumer.assignment())
            paused_s = 0
            say("resumes")
        count += len(application.polled(consumer))
    consumer.close()


def one_at_a_time(application):
    """Asks for one message, works on it for a long time, commits."""
    consumer = application.consumer(enable_auto_commit=False)
    while application.goes_on:
        for record in application.polled(consumer, max_records=1):
            with otel_pipeline.process(record):
                time.sleep(application.said["work_s"])
            consumer.commit()
            say("processed", offset=record.offset)
    consumer.close()


def batches(application):
    """No member of a group: drains, and sleeps without polling."""
    consumer = application.consumer()
    while application.goes_on:
        count = 0
        while got := application.polled(consumer):
            count += len(got)
        say("drained", count=count)
        time.sleep(application.said["sleep_s"])
    consumer.close()


def retries(application):
    """Sends what fails on with its headers: to a topic for retries and back, or to one for dead letters."""
    from kafka import KafkaProducer

    main, again, dead = application.topics
    consumer, producer = application.consumer(), KafkaProducer(bootstrap_servers=application.said["address"])
    count = 0
    while application.goes_on:
        for record in consumer:
            count += 1
            tries = sum(name == "tries" for name, _ in record.headers)
            if record.topic == main and count % 20 == 0 and tries < 3:
                producer.send(again, record.value, headers=[*record.headers, ("tries", b"1")])
            elif record.topic == main and count % 7 == 0:
                producer.send(dead, record.value, headers=record.headers)
            elif record.topic == again:
                producer.send(main, record.value, headers=record.headers)
    producer.close()
    consumer.close()


def fails(application):
    """Sends what the broker refuses."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=application.said["address"], enable_idempotence=False)
    while application.goes_on:
        producer.send(application.topics[0], b"x" * 900)
        time.sleep(0.02)
    os._exit(0)


def clock_steps(application):
    """Somebody sets this machine's clock an hour forward, and it is right again 20 s later."""

    def step():
        for skew_s in (3_600, 0):
            time.sleep(application.said["skew_s"])
            say("steps", skew_s=skew_s)
            _SKEW_NS[0] = int(skew_s * 1e9)

    threading.Thread(target=step, daemon=True).start()
    reads(application)


PROGRAMS = {
    each.__name__: each
    for each in (reads, two_groups, queues, pauses, one_at_a_time, batches, retries, fails, clock_steps)
}

if __name__ == "__main__":
    otel_pipeline.instrument(sys.argv[1])
    PROGRAMS[sys.argv[1]](Application(**json.loads(sys.argv[2])))

"""Where a situation plays: topics on the real broker, programs, and what their lights say from second to second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from otel_pipeline.engine import pipeline_header
from otel_pipeline.verdict.state_reader import read_all

PROGRAMS = Path(__file__).with_name("situation_programs.py")
CONFIGURATION = """version: 1
objectives:
  all: {{destination: "*", threshold: {threshold}, objective: 0.99}}
health: {{lost_after: 5s}}
"""
LOOK_S = 0.25


class Said(NamedTuple):
    """What a light said, since when."""

    at_s: float
    """Monotonic."""
    state: str
    status: str | None
    why: str


class Program:
    """An application in a process of its own."""

    def __init__(self, process):
        self.process = process
        self.events = []
        """(monotonic s, what it said)."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.events.append((time.monotonic(), json.loads(line)))

    def all(self, event):
        """Each event of this name."""
        return [each for _, each in self.events if each["event"] == event]

    def at_s(self, event):
        """When it first said so; None where it has not."""
        return next((at_s for at_s, each in self.events if each["event"] == event), None)

    def end(self):
        """Close its input, and wait for its end."""
        self.process.stdin.close()
        try:
            self.process.wait(20)
        finally:
            self.kill()

    def kill(self):
        """Whatever it does; nothing of it is left."""
        self.process.kill()
        self.process.wait()
        self._thread.join(10)
        for each in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                each.close()


class Stage:
    """Of one situation: what its programs keep is nobody else's. Closed at its end, whatever happened."""

    def __init__(self, address, folder):
        self.address, self.folder = address, folder
        folder.mkdir()
        self.began_s = time.monotonic()
        self._programs, self._said, self._sequences, self._over = [], {}, {}, threading.Event()
        self._threads = [threading.Thread(target=self._watch)]
        self._threads[0].start()

    def close(self):
        self._over.set()
        for each in self._programs:
            each.kill()
        for thread in self._threads:
            thread.join(10)

    # The broker

    def topic(self, partitions=1, **configuration):
        """A topic of this situation alone; underscores in the names of its configuration are dots."""
        from kafka.admin import KafkaAdminClient, NewTopic

        name = f"orders-{uuid.uuid4().hex[:12]}"
        configs = {key.replace("_", "."): str(value) for key, value in configuration.items()}
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        admin.close()
        return name

    def add_partitions(self, topic, count):
        from kafka.admin import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self.address)
        admin.create_partitions({topic: count})
        admin.close()

    def committed(self, topic, group):
        """The group's offset in partition 0."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self.address, group_id=group)
        found = consumer.committed(TopicPartition(topic, 0))
        consumer.close()
        return found

    def write(self, topic, count, *, rate=None, partitions=1, late_s=0.0, origin_s=0.0, producer=7):
        """Have a producer append messages, so many per second, in turn to the partitions.

        Args:
            late_s: how far the producer's clock is behind.
            origin_s: how old its data was before it came to this producer.
        """
        from confluent_kafka import cimpl

        client = cimpl.Producer({"bootstrap.servers": self.address, "log_level": 0, "linger.ms": 5})
        began_s, numbers = time.monotonic(), self._sequences
        for turn in range(count):
            partition = turn % partitions
            number = numbers[topic, partition, producer] = numbers.get((topic, partition, producer), 0) + 1
            now_ms = int((time.time() - late_s) * 1000)
            header = pipeline_header.encode(
                flags=pipeline_header.PER_PARTITION,
                hops=1,
                environment="staging",
                origin_ms=now_ms - int(origin_s * 1000),
                newest_ms=0,
                path=1,
                producer_id=producer,
                sequence=number,
                tag=pipeline_header.tag_of(topic, partition),
            )
            value = b'{"id": %d, "amount": %d.5}' % (turn, turn)
            client.produce(topic, value, partition=partition, headers=[("otelp", header)], timestamp=now_ms)
            ahead_s = 0 if rate is None else (turn + 1) / rate - (time.monotonic() - began_s)
            if ahead_s > 0.02 or turn % 1_000 == 0:
                client.poll(0)
                if self._over.wait(max(0.0, ahead_s)):
                    break
        assert client.flush(30) == 0

    def writing(self, topic, rate, **how):
        """Do so at a rate until the situation ends, beside what happens."""
        thread = threading.Thread(target=self.write, args=(topic, 1_000_000), kwargs={"rate": rate, **how})
        self._threads.append(thread)
        thread.start()

    # Programs

    def start(self, program, *topics, threshold="4s", **said):
        """Start one; its group is called as it is."""
        folder = self.folder / f"{len(self._programs)}"
        folder.mkdir()
        (folder / "otel_pipeline.yaml").write_text(CONFIGURATION.format(threshold=threshold))
        options = {"address": self.address, "topics": topics, "group": f"{program}-{topics[0]}", **said}
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CI", "PYTEST"))}
        environ |= {
            "OTEL_PIPELINE_ENVIRONMENT": "staging",
            "OTEL_PIPELINE_STATE_DIR": str(self.folder / "state"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        environ |= {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
        with (folder / "stderr").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAMS), program, json.dumps(options)],
                env=environ,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._programs.append(Program(process))
        return self._programs[-1]

    def begun(self, program, *topics, **said):
        """Start one, and wait until it has its partitions: nothing waits when messages begin to come."""
        found = self.start(program, *topics, **said)
        self.until(lambda: all(self.now("pace", each)[1] == "ok" for each in topics), 60)
        return found

    def until(self, condition, seconds):
        """Wait for what is to come, so many seconds at most; what the lights said is told where it does not."""
        deadline_s = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline_s, self.told()
            self._over.wait(LOOK_S)
        return found

    def health(self, *words):
        """What `otel-pipeline health` says of its programs: exit code, text without its lines."""
        environ = {**os.environ, "OTEL_PIPELINE_STATE_DIR": str(self.folder / "state")}
        command = "from otel_pipeline.cli.main import main; raise SystemExit(main())"
        done = subprocess.run(
            [sys.executable, "-c", command, "health", *words], env=environ, capture_output=True, text=True, check=False
        )
        return done.returncode, " ".join(done.stdout.split())

    # What was said

    def _watch(self):
        while not self._over.wait(LOOK_S):
            for found in (each for each in read_all(self.folder / "state" / "health") if each.alive):
                pid = found.document["process"]["pid"]
                for flow in (*found.document["flows"], *found.document["producers"]):
                    for name, light in flow["lights"].items():
                        self._take_in(f"{name} {flow['destination']} {flow.get('group')} {pid}", light)

    def _take_in(self, of, light):
        said, now = self._said.setdefault(of, []), (light["state"], light.get("status"))
        if not said or said[-1][1:3] != now:
            said.append(Said(time.monotonic(), *now, light["why"]))
        else:
            said[-1] = said[-1]._replace(why=light["why"])

    def of(self, name, topic, group=None):
        """What a light said of a destination, by the first process that said something; of whichever group."""
        start = f"{name} {topic} {'' if group is None else group}"
        return list(next((said for of, said in list(self._said.items()) if of.startswith(start)), ()))

    def colours(self, name, topic, group=None):
        """The colours that it had, in whichever process."""
        start = f"{name} {topic} {'' if group is None else group}"
        return {each.state for of, said in list(self._said.items()) if of.startswith(start) for each in list(said)}

    def now(self, name, topic, group=None):
        """(colour, status) that it has now."""
        said = self.of(name, topic, group)
        return said[-1][1:3] if said else (None, None)

    def first_s(self, colour, name, topic, group=None):
        """When it was first of that colour, s monotonic; None where it never was."""
        return next((each.at_s for each in self.of(name, topic, group) if each.state == colour), None)

    def told(self):
        """Everything, for whoever has to find out why a situation went another way."""
        lines = [
            f"{each.at_s - self.began_s:6.1f} s {of}: {each.state} {each.status or ''} {each.why}"
            for of, said in self._said.items()
            for each in said
        ]
        errors = [each.read_text()[-1_000:] for each in self.folder.glob("*/stderr")]
        return "\n".join([*lines, *(str(program.events[-6:]) for program in self._programs), *errors])

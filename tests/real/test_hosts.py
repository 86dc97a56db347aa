"""gunicorn, uvicorn, celery and uWSGI as they are: what their workers sent is what arrives, each under its own name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from otel_pipeline.brokers.embedded import embedded_broker
from otel_pipeline.dev.receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import LogRecord, MetricRecord, SpanRecord, read
from otel_pipeline.verdict.state_reader import read_all

pytestmark = [pytest.mark.real, pytest.mark.once, pytest.mark.skipif(os.name == "nt", reason="no fork here")]

PATIENCE_S = 30
APP = """
import logging, os
import otel_pipeline
pipe = otel_pipeline.instrument("app", environment="production")
clients = {}

def send(count):
    from kafka import KafkaProducer
    pid = os.getpid()
    if pid not in clients:
        clients[pid] = KafkaProducer(bootstrap_servers=os.environ["BROKER"], api_version=(2, 3))
    for number in range(count):
        clients[pid].send("orders", b"%d" % number).get(20)
    logging.getLogger("app").warning("sent")
    with open(os.environ["SENT"], "a") as file:
        file.write(f"{pid} {count}\\n")
    return str(pid).encode()

send(2)
clients.pop(os.getpid()).close()

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [send(3)]

async def asgi(scope, receive, send_back):
    if scope["type"] == "http":
        body = send(3)
        await send_back({"type": "http.response.start", "status": 200, "headers": []})
        await send_back({"type": "http.response.body", "body": body})
"""
TASKS = """
from app import send
from celery import Celery, signals

app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app.conf.worker_hijack_root_logger = False

@app.task
def work():
    send(3)

@signals.worker_ready.connect
def ready(**_):
    for _ in range(8):
        work.delay()
"""


class Host:
    """A server, its workers, and what has arrived from them."""

    def __init__(self, folder, hosts, broker, endpoint):
        self.folder, self.hosts = folder, hosts
        self._process = None
        self.output = folder / "output"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CI", "PYTEST"))}
        paths = [str(folder), os.environ.get("PYTHONPATH", ""), str(hosts)]
        self.environ = clean | {
            "OTEL_PIPELINE_STATE_DIR": str(folder / "state"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "BROKER": broker,
            "SENT": str(folder / "sent"),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONWARNINGS": "ignore",
        }

    def start(self, *command):
        """Start it, in a session of its own, so that nothing is left of it."""
        with self.output.open("w") as output:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=self.environ, stdout=output, stderr=output, start_new_session=True
            )

    def wait_for(self, condition):
        """Look again and again; what the server said is told when it does not come."""
        ends_s = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < ends_s, self.output.read_text()
            time.sleep(0.05)
        return found

    def stop(self, signal_number=signal.SIGTERM):
        """End it as its manager does; return how it ended."""
        self._process.send_signal(signal_number)
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "it hangs"

    def kill(self):
        """Leave nothing."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def request(self, _number=0):
        """Send one; the worker's pid, or None where nobody answers yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=PATIENCE_S) as answer:
                return int(answer.read())
        except OSError:
            return None

    def sent(self):
        """How many messages each process has sent, as it says itself."""
        counts = Counter()
        path = self.folder / "sent"
        for line in path.read_text().splitlines() if path.exists() else ():
            pid, count = line.split()
            counts[int(pid)] += int(count)
        return counts

    def lights(self):
        """The destinations that each process shows lights of, by its pid."""
        documents = [found.document for found in read_all(self.folder / "state" / "health")]
        return {
            each["process"]["pid"]: [shown["destination"] for kind in ("flows", "producers") for shown in each[kind]]
            for each in documents
        }

    def arrived(self):
        """How many spans, messages counted and log records have arrived from each (pid, instance)."""
        spans, counted, logs = Counter(), Counter(), Counter()
        for record in read(self.folder / "collector" / "telemetry.jsonl"):
            who = record.resource["process.pid"], record.resource["service.instance.id"]
            if isinstance(record, SpanRecord):
                spans[who] += 1
            elif isinstance(record, LogRecord):
                logs[who] += record.body == "sent"
            elif isinstance(record, MetricRecord) and record.name == "messaging.client.sent.messages":
                counted[who] = sum(point.value for point in record.points)
        return spans, counted, logs

    def check(self, *, taken_over=False):
        """All that was sent has arrived, on each signal under one name a process, which no other has.

        Args:
            taken_over: whether one worker goes on with what its master has sent.
        """
        sent, arrived = self.sent(), self.arrived()
        spans, counted, logs = ({pid: count for (pid, _), count in each.items()} for each in arrived)
        if taken_over:
            importing = sent.pop(min(sent))
            sent[max(sent, key=lambda pid: spans.get(pid, 0) - sent[pid])] += importing

        assert (spans, counted, set(logs)) == (sent, sent, set(sent)), self.output.read_text()
        assert set(arrived[0]) == set(arrived[1]) == set(arrived[2])
        assert len({instance for _, instance in arrived[0]}) == len(arrived[0]) == len(sent)


@pytest.fixture(scope="module")
def broker():
    pytest.importorskip("confluent_kafka")
    with embedded_broker({"orders": 1}) as address:
        yield address


@pytest.fixture
def host(tmp_path, real_hosts, broker):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "tasks.py").write_text(TASKS)
    with otlp_receiver(tmp_path / "collector") as endpoint:
        made = Host(tmp_path, real_hosts, broker, endpoint)
        yield made
        made.kill()


PYTHON = (sys.executable, "-m")
UWSGI = (
    "--http-socket",
    "127.0.0.1:{port}",
    "--virtualenv",
    sys.prefix,
    "--wsgi",
    "app",
    "--master",
    "--processes",
    "2",
)
GRACEFUL = ("--hook-master-start", "unix_signal:15 gracefully_kill_them_all")
GUNICORN = (*PYTHON, "gunicorn", "app:application", "--bind", "127.0.0.1:{port}", "--workers", "2", "--preload")
SERVERS = {
    "gunicorn --preload": GUNICORN,
    "gunicorn --preload, gthread": (*GUNICORN, "--worker-class", "gthread", "--threads", "2"),
    "uvicorn --workers": (*PYTHON, "uvicorn", "app:asgi", "--port", "{port}", "--workers", "2"),
    "uWSGI": ("{hosts}/bin/uwsgi", *UWSGI, *GRACEFUL),
    "uWSGI --lazy-apps": ("{hosts}/bin/uwsgi", *UWSGI, *GRACEFUL, "--lazy-apps"),
}

IDLE = {"gunicorn --preload": [[], [], ["orders"]], "uWSGI": [[], ["orders"]]}
"""The lights of all processes before the first request; messages were sent while the application was imported, once."""


@pytest.mark.parametrize("way", SERVERS)
def test_a_server_of_requests(host, way):
    """All of its workers serve; those that have not yet show no light. Then it is told to end."""
    host.start(*(word.format(port=host.port, hosts=host.hosts) for word in SERVERS[way]))
    if way in IDLE:
        host.wait_for(lambda: sorted(host.lights().values()) == IDLE[way])
    workers = {host.wait_for(host.request)}
    with ThreadPoolExecutor(4) as pool:
        host.wait_for(lambda: workers.update(filter(None, pool.map(host.request, range(4)))) or len(workers) == 2)
    ended = host.stop()

    assert ended == 0, host.output.read_text()
    host.check(taken_over=way == "uWSGI")


def test_celery(host):
    """Its prefork children run all tasks, and some end before the others begin."""
    for folder in ("queue", "control"):
        (host.folder / folder).mkdir()
    quick = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    host.start(
        *PYTHON, "celery", "-A", "tasks", "worker", "-P", "prefork", "-c", "2", "--max-tasks-per-child", "3", *quick
    )
    host.wait_for(lambda: sum(host.sent().values()) == 26)

    assert host.stop() == 0, host.output.read_text()
    assert len(host.sent()) > 3
    host.check()

"""What Prometheus gets from a Collector with our two files: every metric's name and labels."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest

from real import prometheus, servers

pytestmark = [pytest.mark.real, pytest.mark.once]
CONFIG = servers.COLLECTOR_CONFIG
MORE = CONFIG.with_name("otelcol-prometheus.yaml")
SAMPLE = re.compile(r"^(\w+)\{(.*?)\} (\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="(.*?)"')
EXPIRATION_SECONDS = 2


@pytest.fixture(scope="module")
def exporting(real_collector_binary):
    """A Collector, and the address where Prometheus would read it."""
    (port,) = servers._free_ports(1)
    variables = {
        "OTELCOL_PROMETHEUS_ENDPOINT": f"127.0.0.1:{port}",
        "OTELCOL_PROMETHEUS_EXPIRATION": f"{EXPIRATION_SECONDS}s",
    }
    with servers.collector(environment=variables, more=[MORE]) as collector:
        yield collector, f"127.0.0.1:{port}"


def test_the_files_are_valid_together(real_collector_binary):
    """With the defaults of their variables."""
    command = [str(real_collector_binary), "validate", "--config", str(CONFIG), "--config", str(MORE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_every_metric_has_the_name_and_labels_that_queries_use(exporting):
    """No other names, no other labels; the environment is a label, the host is not."""
    send(exporting, resource={"deployment.environment.name": "staging"}, instance="1")

    found = defaultdict(set)
    for name, labels, _value in samples(exporting):
        found[name] |= set(labels)

    expected = {
        series: metric.labels if series.endswith("_bucket") else metric.labels - {"le"}
        for metric in prometheus.metrics()
        for series in metric.series
    }
    ours = {name: labels for name, labels in found.items() if not name.startswith("target_")}
    assert ours == expected


def test_processes_of_one_service_stay_apart(exporting):
    """By the instance; a process that does not know its environment says so."""
    send(exporting, resource={"deployment.environment.name": "staging"}, instance="1")
    send(exporting, resource={}, instance="2")

    lag = [labels for name, labels, _value in samples(exporting) if name == "otel_pipeline_consumer_lag"]
    assert sorted((each["instance"], each["deployment_environment_name"], each["service_name"]) for each in lag) == [
        ("1", "staging", "scorer"),
        ("2", "unknown", "scorer"),
    ]


def test_an_exemplar_leads_to_its_trace(exporting):
    """The trace id stands beside the bucket."""
    send(exporting, resource={}, instance="1")

    assert re.search(
        r'otel_pipeline_data_age_seconds_bucket\{.*\} 1(\.0)? # \{.*trace_id="' + "ab" * 16, text(exporting)
    )


def test_a_killed_process_is_gone_after_the_expiration(exporting):
    """Its gauges do not stay for five minutes, as they do by default."""
    send(exporting, resource={}, instance="1")
    assert samples(exporting)

    deadline = time.monotonic() + EXPIRATION_SECONDS + 5
    while samples(exporting) and time.monotonic() < deadline:
        time.sleep(0.2)

    assert samples(exporting) == []


def text(exporting):
    _collector, address = exporting
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    body = connection.getresponse().read().decode()
    connection.close()
    return body


def samples(exporting):
    return [
        (name, dict(LABEL.findall(labels)), float(value)) for name, labels, value in SAMPLE.findall(text(exporting))
    ]


def send(exporting, *, resource, instance):
    """Every metric that we emit, once, with all its attributes."""
    collector, _address = exporting
    attributes = {"service.name": "scorer", "service.instance.id": instance, "host.name": "host", **resource}
    body = {
        "resourceMetrics": [
            {
                "resource": {"attributes": pairs(attributes)},
                "scopeMetrics": [
                    {"scope": {"name": "otel_pipeline"}, "metrics": list(map(otlp, prometheus.metrics()))}
                ],
            }
        ]
    }
    connection = http.client.HTTPConnection(collector.http.removeprefix("http://"), timeout=10)
    connection.request("POST", "/v1/metrics", json.dumps(body), {"Content-Type": "application/json"})
    assert connection.getresponse().status == http.client.OK
    connection.close()


def otlp(metric):
    now = str(time.time_ns())
    point = {"timeUnixNano": now, "startTimeUnixNano": now, "attributes": pairs(dict.fromkeys(metric.attributes, "x"))}
    if metric.instrument == "histogram":
        exemplar = {"timeUnixNano": now, "asDouble": 0.5, "traceId": "ab" * 16, "spanId": "cd" * 8}
        point |= {"count": "1", "sum": 0.5, "bucketCounts": ["0", "1", "0"], "explicitBounds": [0.1, 1.0]}
        kind = {"histogram": {"aggregationTemporality": 2, "dataPoints": [{**point, "exemplars": [exemplar]}]}}
    elif metric.instrument == "counter":
        kind = {"sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [{**point, "asInt": "1"}]}}
    else:
        kind = {"gauge": {"dataPoints": [{**point, "asDouble": 0.5}]}}
    return {"name": metric.name, "unit": metric.unit, **kind}


def pairs(attributes):
    return [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]


def test_the_scrape_example_is_valid(real_promtool):
    """The rules that it names with it."""
    command = [str(real_promtool), "check", "config", str(Path(CONFIG).with_name("prometheus.yml"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr

"""What the pages say works: code runs or at least compiles against what is there, and links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import kafka as client
import pytest

import otel_pipeline

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def broker():
    from otel_pipeline.testing.broker import API_VERSION, embedded_broker

    pytest.importorskip("confluent_kafka")
    with embedded_broker({"orders": 1, "decisions": 1}) as address:
        yield {"bootstrap_servers": address, "api_version": API_VERSION}


def test_the_readmes_ten_lines(telemetry, broker, monkeypatch):
    """Word for word, but for the broker's address: the send is below the model call's message, in the sender's trace."""
    (source,) = BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    first = client.KafkaProducer(**broker)
    producers, consumers = [first], []

    def consumer(topic, **_options):
        made = client.KafkaConsumer.__wrapped__(**broker, auto_offset_reset="earliest", consumer_timeout_ms=2_000)
        made.assign([client.TopicPartition(topic, 0)])
        consumers.append(made)
        return made

    def producer(**_options):
        producers.append(client.KafkaProducer.__wrapped__(**broker))
        return producers[-1]

    consumer.__wrapped__, producer.__wrapped__ = client.KafkaConsumer, client.KafkaProducer
    monkeypatch.setattr(otel_pipeline, "instrument", telemetry.instrument)
    telemetry.instrument("scorer", environment="local")
    first.send("orders", b"a", partition=0).get(10)
    monkeypatch.setattr(client, "KafkaConsumer", consumer)
    monkeypatch.setattr(client, "KafkaProducer", producer)
    exec(compile(source, "README.md", "exec"), {"model": bytes.upper})  # noqa: S102
    for made in (*producers, *consumers):
        made.close()

    spans = [span for span in telemetry.spans() if span.kind != "CLIENT"]
    assert sorted(span.name for span in spans) == [
        "predict churn-v3",
        "process orders",
        "send decisions",
        "send orders",
    ]
    assert len({span.trace_id for span in spans}) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_name_what_is_there(page):
    """They compile, and every `otel_pipeline.name` in them exists."""
    names = set()
    for block in BLOCK.findall(page.read_text("utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "otel_pipeline":
                names.add(node.attr)

    assert {name for name in names if not hasattr(otel_pipeline, name)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Files of this repository."""
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [target for target in targets if "://" not in target]

    assert [target for target in local if not (page.parent / target).exists()] == []

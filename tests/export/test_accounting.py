"""Accounts in status() and as metrics: started = exported + queued + dropped."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_pipeline.export import account_metrics
from otel_pipeline.export.account_metrics import observe
from otel_pipeline.export.accounting import Account
from otel_pipeline.export.causes import REFUSED, TIMEOUT
from otel_pipeline.export.exporters import component
from otel_pipeline.status import ExportStatus, Status

ENDPOINT = "http://collector:4318"


def account(signal="traces", queue=0):
    made = Account(signal, ENDPOINT, component(f"otlp_http_{signal}_exporter", ENDPOINT), component("lines"))
    if signal != "metrics":
        made.queue_size = lambda: queue
    return made


@pytest.fixture
def lossy():
    """12 started: 3 exported, 1 as lines, 2 wait, 1 is in the exporter's hands, 6 are lost."""
    made = account(queue=2)
    made.taken.cell.value += 12
    made.dropped_before(3, "queue_full")
    made.begin(3)
    made.exported(2)
    made.exported(1, as_lines=True)
    made.begin(3)
    made.dropped(2, "refused")
    made.dropped(1, "not_encoded")
    made.begin(1)
    return made


@pytest.fixture
def read():
    """Metrics' names to their points, of a provider that observes these accounts."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)

    class Owner:
        def __init__(self, accounts):
            self.accounts = lambda: accounts

    owners = []

    def points(*accounts):
        owners.append(Owner(accounts))
        observe(provider, provider.get_meter("otel_pipeline"), owners[-1])
        data = reader.get_metrics_data()
        return {
            metric.name: sorted(
                (tuple(sorted(point.attributes.items())), point.value) for point in metric.data.data_points
            )
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    return points


def named(kind, *more, server=True):
    """Attributes of a component."""
    where = [("server.address", "collector"), ("server.port", 4318)] if server else []
    found = [("otel.component.name", f"{kind}/0"), ("otel.component.type", kind), *where, *more]
    return tuple(sorted(found))


def test_the_sum(lossy):
    counts = lossy.counts()

    assert counts.started == counts.exported + counts.queued + sum(counts.dropped.values())
    assert (counts.exported, counts.queued, counts.dropped, counts.lost) == (
        3,
        3,
        {"queue_full": 3, "refused": 2, "not_encoded": 1},
        6,
    )


def test_as_metrics_under_opentelemetrys_own_names(lossy, read):
    """Whatever was not given to the exporter stands with its processor, the rest with the exporter."""
    exporter, processor = "otlp_http_traces_exporter", "batching_span_processor"

    assert read(lossy) == {
        "otel.sdk.exporter.span.exported": sorted(
            [
                (named(exporter), 2),
                (named("lines", server=False), 1),
                (named(exporter, ("error.type", "refused")), 2),
                (named(exporter, ("error.type", "not_encoded")), 1),
            ]
        ),
        "otel.sdk.processor.span.processed": sorted(
            [(named(processor, server=False), 7), (named(processor, ("error.type", "queue_full"), server=False), 3)]
        ),
        "otel.sdk.processor.span.queue.size": [(named(processor, server=False), 2)],
        "otel_pipeline.sdk.dropped": [((("otel_pipeline.signal", "traces"),), 6)],
    }


def test_a_loss_that_has_not_been_is_a_zero(read):
    """A counter that is born above zero alerts nobody."""
    found = read(account(), account("logs"), account("metrics"))

    assert found["otel_pipeline.sdk.dropped"] == [
        ((("otel_pipeline.signal", "logs"),), 0),
        ((("otel_pipeline.signal", "metrics"),), 0),
        ((("otel_pipeline.signal", "traces"),), 0),
    ]
    assert [value for _, value in found["otel.sdk.processor.log.processed"]] == [0, 0]
    assert [value for _, value in found["otel.sdk.exporter.metric_data_point.exported"]] == [0]


def test_two_exporters_of_a_signal_are_one_sum_of_losses(lossy, read):
    assert read(lossy, lossy)["otel_pipeline.sdk.dropped"] == [((("otel_pipeline.signal", "traces"),), 12)]


def test_instrumenting_again_reads_the_new_accounts(lossy, read):
    """Nothing is registered twice."""
    read(lossy)

    assert read(account())["otel_pipeline.sdk.dropped"] == [((("otel_pipeline.signal", "traces"),), 0)]


def test_the_sdks_own_metrics_are_not_doubled(lossy, read, monkeypatch):
    """Where it is asked to count by itself, our sum of losses is left."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    monkeypatch.setattr(account_metrics, "find_spec", lambda name: name)

    assert list(read(lossy)) == ["otel_pipeline.sdk.dropped"]


def test_series_do_not_grow_with_losses(lossy, read):
    """They are as many as there are reasons; an export that is counted makes no more to export."""
    before = {name: len(points) for name, points in read(lossy).items()}
    for _ in range(1000):
        lossy.begin(2)
        lossy.dropped(1, "refused")
        lossy.exported(1)

    assert {name: len(points) for name, points in read(lossy).items()} == before


def status(*exports):
    return Status(True, "app", "local", "", "OTLP", (), (), exports=exports)


def test_status_says_what_became_of_it(lossy, monkeypatch):
    monkeypatch.setattr("otel_pipeline.status._clock", lambda at_s: f"at {at_s:.0f} s")
    lossy.last_success_s = 1_700_000_000.0
    lossy.removed(4)
    arrives = status(lossy.status())
    lossy.count_failure(REFUSED)
    lossy.failing_since_s = 1_700_000_100.0
    failing = status(lossy.status())
    lossy.failing_since_s, lossy.doubt = None, lambda: TIMEOUT
    trying = status(lossy.status())

    assert [str(each).splitlines()[2] for each in (arrives, failing, trying)] == [
        (
            "  traces       3 exported, 1 of them as lines, 3 queued, 4 removed to make room, 6 lost (not_encoded 1, "
            "queue_full 3, refused 2), last arrived at 1700000000 s"
        ),
        (
            "  traces       3 exported, 1 of them as lines, 3 queued, 4 removed to make room, 6 lost (not_encoded 1, "
            "queue_full 3, refused 2), last arrived at 1700000000 s, none since at 1700000100 s: nobody listens there; start a Collector, "
            "or set OTEL_EXPORTER_OTLP_ENDPOINT to one"
        ),
        (
            "  traces       3 exported, 1 of them as lines, 3 queued, 4 removed to make room, 6 lost (not_encoded 1, "
            "queue_full 3, refused 2), last arrived at 1700000000 s, still trying: it gives no answer in time; is it overloaded, is "
            "a firewall between? OTEL_EXPORTER_OTLP_TIMEOUT says how long is waited"
        ),
    ]
    assert [each.ok for each in (arrives, failing, trying)] == [True, False, False]
    assert isinstance(lossy.status(), ExportStatus)

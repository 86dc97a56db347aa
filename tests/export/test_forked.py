"""What the SDK keeps of a parent, and a child must not."""

from __future__ import annotations

import os
import threading

import pytest
import requests
from opentelemetry.sdk.resources import Resource
from opentelemetry.util._once import Once

from otel_pipeline.export import forked
from otel_pipeline.export.forked import rename, renew_locks


class Thing:
    """Has what the SDK's objects have."""

    def __init__(self):
        self.lock, self.again, self.condition = threading.Lock(), threading.RLock(), threading.Condition()
        self.quiet, self.said, self.once = threading.Event(), threading.Event(), Once()
        self.said.set()
        self.number = 7


def test_locks_that_somebody_holds_are_free():
    """Events stay as they are, and what was done once is done."""
    thing, other = Thing(), object()
    thing.once.do_once(lambda: None)
    thing.lock.acquire()
    thing.once._lock.acquire()
    holding = threading.Thread(target=lambda: (thing.again.acquire(), thing.condition.acquire()))
    holding.start()
    holding.join()
    renew_locks([thing, other])

    assert thing.lock.acquire(blocking=False)
    assert thing.again.acquire(blocking=False)
    assert thing.condition.acquire(blocking=False)
    assert (thing.quiet.is_set(), thing.said.is_set(), thing.once.do_once(lambda: None)) == (False, True, False)
    assert thing.number == 7


@pytest.mark.parametrize("sdk_has_ids", [False, True])
def test_a_resource_is_renamed_in_its_place(monkeypatch, sdk_has_ids):
    """All that refer to it say the new process; where the SDK has an id for each process, the same one."""

    class Detector:
        def detect(self):
            return Resource({"service.instance.id": "the SDK's"})

    if sdk_has_ids:
        monkeypatch.setattr(forked.resources, "ServiceInstanceIdResourceDetector", Detector, raising=False)
    else:
        monkeypatch.delattr(forked.resources, "ServiceInstanceIdResourceDetector", raising=False)
    resource = Resource({"service.name": "app", "service.instance.id": "parent", "process.pid": 1})
    rename(resource)
    attributes = dict(resource.attributes)
    instance = attributes.pop("service.instance.id")

    assert attributes == {"service.name": "app", "process.pid": os.getpid()}
    assert instance == "the SDK's" if sdk_has_ids else len(instance) == 36


def test_connections_are_found_wherever_the_exporter_keeps_them():
    """And they are others afterwards; what the session was given stays."""

    class Holder:
        def __init__(self, **parts):
            vars(self).update(parts)

    session = requests.Session()
    session.headers["authorization"] = "x"
    pool = session.get_adapter("http://a").poolmanager
    reader = Holder(_exporter=Holder(_exporter=Holder(_client=Holder(_transport=Holder(_session=session)))))
    provider = Holder(_measurement_consumer=Holder(_reader_storages={reader: 1}), _meters={})
    parts = list(forked._parts(provider))
    forked.ForkedProviders(Resource({}), {"traces": provider}, [])._connect()

    assert session in parts
    assert session.cookies in parts
    assert session.get_adapter("http://a").poolmanager is not pool
    assert session.headers["authorization"] == "x"

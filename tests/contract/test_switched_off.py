"""A place of ours that is switched off is missed by nobody but the telemetry, whatever the client."""

from __future__ import annotations

import otel_pipeline


def run(driver):
    """An application that does what the client can; what it got."""
    topic = driver.topic()
    for value in (b"a", b"b", b"c"):
        driver.send(topic, value, headers=[("tenant", b"7")])
    reader, got = driver.reader(topic), []

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client), otel_pipeline.inference("m"):
            got.append(driver.read(message, "value"))

    reader.loop(handle, 2)
    handle(reader.receive_one())
    if driver.can.commit:
        reader.commit()
    reader.close()
    return got


def test_the_application_goes_on(driver, instrument):
    """With any place switched off it gets what it would get without us, and nothing of the place fails any more."""
    pipe = instrument()
    run(driver)
    found = {}
    places = dict(pipe._guard._places)
    for name, place in sorted(places.items()):
        place.off = True
        found[name] = run(driver), pipe.status().errors
        place.off = False

    assert {name: each for name, each in found.items() if each != ([b"a", b"b", b"c"], {})} == {}
    assert {"client", "process", "process.finish", "receive", "send", "send.follow", "settle"} <= found.keys()

"""What the demo reads of its services' health, and how it shows that."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from otel_pipeline.cli.terminal import Terminal
from otel_pipeline.demo import lights
from otel_pipeline.demo.lights import HopLights, hops, screen, settled


def light(state="green", why="", look=None, n=1797, **figures):
    return {"state": state, "why": why, "look": look, "seen": n, "figures": figures}


def document(service="scorer", written_at="2026-01-01T00:00:01Z", **lights):
    healthy = {
        "fresh": light(why="99.9 % of 1797 decisions used data younger than 5 s", met=1795.0, missed=2.0, p99_s=0.21),
        "order": light(missing=0.0),
        "pace": light(lag=0.0),
        "contract": light(checked=1332.0),
        "environment": light(),
    }
    flow = {"cluster": None, "state": "green"}
    return {
        "schema": 2,
        "interval_s": 1,
        "ok": True,
        "reason": "",
        "written_at": written_at,
        "ended_at": None,
        "process": {"service": service, "pid": 7, "environment": None},
        "flows": [
            {**flow, "group": service, "destination": "digits.features", "lights": {**healthy, **lights}},
        ],
        "producers": [
            {**flow, "destination": "digits.predictions", "lights": {"delivered": light(), "contract": light()}},
        ],
    }


def test_the_lights_of_a_hop_with_figures():
    """Of the flow that the service reads, not of the one that it sends to."""
    assert hops({"scorer": document()})[1] == HopLights(
        sender="features",
        receiver="scorer",
        states=dict.fromkeys(("fresh", "order", "pace", "contract", "environment"), "green"),
        whys={},
        fresh="99.9 % of 1797 decisions used data younger than 5 s",
        messages=1797,
        age_p99_s=0.21,
        lag=0,
        missing=0,
        checked=1332,
    )


@pytest.mark.parametrize("documents", [{}, {"features": {"flows": []}}], ids=["no file", "no message yet"])
def test_a_service_that_says_nothing(documents):
    """Grey, and never green."""
    nothing = hops(documents)[0]
    lines = list(screen([nothing], Terminal()))

    assert (nothing.green, lines[1].split()[3:], lines[2]) == (
        False,
        ["grey"] * 5 + ["-"] * 4,
        "  features: kept no health",
    )


def test_the_screen():
    """Words for the lights, figures, the reason of each that is not green, and how fresh decisions were."""
    features = document("features", order=light("grey", "only 40 of 100 messages so far", n=40))
    features["flows"][0]["lights"]["fresh"] = light("red", "late", "the hop", met=1.0)

    assert list(screen(hops({"features": features, "scorer": document()}), Terminal())) == [
        "healthy?           fresh  in order  keeping pace  contract kept  environment clean  data age p99  lag  missing  values checked",
        "ingest → features  red    grey      green         green          green                         -    0        -           1,332",
        "features → scorer  green  green     green         green          green                    210 ms    0        0           1,332",
        "  features: fresh is red: late; look: the hop",
        "  features: in order is grey: only 40 of 100 messages so far",
        "99.9 % of 1797 decisions used data younger than 5 s",
    ]


@pytest.fixture
def clock(monkeypatch):
    """Sleeping writes the services' files anew, a second later."""

    class Clock:
        def __init__(self):
            self.now, self.changed = 0.0, {}

        def monotonic(self):
            return self.now

        def sleep(self, _seconds):
            self.now += 1.0

        def documents(self, _folder):
            at = f"2026-01-01T00:00:{int(self.now):02}Z"
            return {name: {**document(name, **self.changed), "written_at": at} for name in ("features", "scorer")}

    made = Clock()
    monkeypatch.setattr(lights, "time", made)
    monkeypatch.setattr(lights, "documents", made.documents)
    return made


@pytest.mark.parametrize(
    ("changed", "seconds"),
    [
        pytest.param({}, 0, id="green at once"),
        pytest.param({"order": light("grey", n=40)}, 3, id="not enough messages"),
        pytest.param({"order": light(n=1700)}, 3, id="some are not judged yet"),
    ],
)
def test_the_demo_waits_for_evidence(clock, changed, seconds, tmp_path):
    """Until all is green and everything was judged, and otherwise for a few evaluations."""
    clock.changed = changed
    found = settled(tmp_path, 1797)

    assert (clock.now, len(found)) == (seconds, 2)


def test_what_the_services_keep(tmp_path):
    """State files by service; others are left alone."""
    (tmp_path / "a.json").write_text(json.dumps(document()))
    (tmp_path / "b.json").write_text("{}")

    assert list(lights.documents(tmp_path)) == ["scorer"]


def test_green_is_all_five():
    """One that is missing is none."""
    (whole,) = hops({"scorer": document()})[1:]

    assert (whole.green, replace(whole, states={"contract": "green"}).green) == (True, False)


REASON = "53.3 % of 1,797 decisions used data younger than 5 s; 99 % is the objective and the objective is what counts"
REMEDY = "the hop with the highest delivery age, then the keeping-pace light, and whether its producers run at all"


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_light_is_cut(width):
    """However narrow the terminal: each state, each reason, each remedy stands there whole."""
    lights_of = {name: {**light("red", REASON), "look": REMEDY} for name in ("fresh", "order", "pace")}
    lines = list(screen(hops({"scorer": document(**lights_of)}), Terminal(width=width)))
    text = " ".join(" ".join(lines).split())

    assert ("…" in text, max(map(len, lines)) <= width) == (False, True)
    assert [text.count(word) for word in (REASON, f"look: {REMEDY}")] == [3, 3]
    assert [text.count(title) for title in ("environment clean", "values checked")] == [2 if width < 200 else 1] * 2

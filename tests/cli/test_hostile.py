"""Files of anybody: whatever is in them, commands end with a sentence and steer no terminal."""

from __future__ import annotations

import copy
import json
import os
import random
from functools import reduce

import pytest

from otel_pipeline.cli.main import main
from otel_pipeline.verdict.report import SCHEMA

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
TRACE, SPAN = "ab" * 16, "cd" * 8


def value(of):
    kind = {str: "stringValue", int: "intValue", float: "doubleValue"}[type(of)]
    return {kind: of}


def attributes(**values):
    return [{"key": name.replace("__", "."), "value": value(each)} for name, each in values.items()]


def span(*, attributes=(), **values):
    plain = {
        "traceId": TRACE,
        "spanId": SPAN,
        "name": "send x",
        "kind": 4,
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000000001000000",
        "attributes": list(attributes),
    }
    return {**plain, **values}


def request(*spans, **resource):
    resource = {"service__name": "scorer", **resource}
    scoped = [{"scope": {"name": ESCAPE}, "spans": list(spans)}]
    return {"resourceSpans": [{"resource": {"attributes": attributes(**resource)}, "scopeSpans": scoped}]}


LINKED = [span(), span(spanId="ce" * 8, links=[{"traceId": TRACE, "spanId": SPAN}], name=ESCAPE)]
NESTED = reduce(lambda inner, _: {"arrayValue": {"values": [inner]}}, range(200), {"intValue": "1"})
OFFSET = "messaging.kafka.offset"
FILES = {
    "name": request(span(name=ESCAPE)),
    "service": request(*LINKED, service__name=ESCAPE),
    "environment": request(span(), deployment__environment__name=ESCAPE),
    "hops": request(span(attributes=attributes(otel_pipeline__hops=ESCAPE))),
    "offset": request(span(attributes=attributes(kafka__offset=ESCAPE, messaging__kafka__offset=ESCAPE))),
    "partition": request(
        span(attributes=attributes(kafka__offset=1, messaging__destination__partition__id=ESCAPE)),
    ),
    "batch": request(span(attributes=attributes(messaging__batch__message_count=ESCAPE))),
    "batch that is no number": request(span(attributes=attributes(messaging__batch__message_count=float("nan")))),
    "status": request(span(status={"code": 2, "message": ESCAPE})),
    "status of lines": request(span(status={"code": 2, "message": "\n" * 1000 + ESCAPE})),
    "error type": request(span(attributes=attributes(error__type=ESCAPE), status={"code": 2})),
    "link": request(*LINKED),
    "link elsewhere": request(span(links=[{"traceId": "ef" * 16, "spanId": SPAN}])),
    "link of no id": request(span(links=[{"traceId": TRACE, "spanId": ESCAPE}])),
    "trace id": request(span(traceId=ESCAPE)),
    "trace id in capitals": request(span(traceId=TRACE.upper())),
    "trace id of the length": request(span(traceId="_" * 30 + "0x")),
    "trace id of other digits": request(span(traceId="\u0661" * 32)),
    "parent": request(span(parentSpanId=ESCAPE)),
    "time that is huge": request(span(startTimeUnixNano="9" * 30, endTimeUnixNano="9" * 31)),
    "time at the end": request(span(endTimeUnixNano=str(2**64 - 1))),
    "time before all": request(span(startTimeUnixNano="-99999999999999999999")),
    "time without end": request(span(startTimeUnixNano=1e400)),
    "age without end": request(span(attributes=attributes(otel_pipeline__data__age=float("inf")))),
    "age that is none": request(span(attributes=attributes(otel_pipeline__data__age=float("nan")))),
    "attribute without key": request(span(attributes=[{"value": {}}])),
    "attribute of lists": request(span(attributes=[{"key": "k", "value": NESTED}])),
    "surrogate": request(span(name="\ud800")),
    "no span": request(5),
    "no list": {"resourceSpans": {}},
    "nothing": request(None),
    "null": None,
    "number": 5,
}


@pytest.mark.parametrize("words", [(), ("--json",), ("--list",), ("--list", "--json")], ids=" ".join)
@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_show(tmp_path, capsys, monkeypatch, content, words):
    """A trace, or a sentence why there is none."""
    monkeypatch.setenv("FORCE_COLOR", "")
    (tmp_path / "x.jsonl").write_text(json.dumps(content) + "\n")
    code = main(["show", "--file", str(tmp_path / "x.jsonl"), *words])
    harmless(code, *capsys.readouterr())


def harmless(code, out, err):
    """Nothing steers the terminal, nothing is our own fault, and what could not be read is another code than red."""
    assert code in {0, 2}
    assert "fault of otel-pipeline" not in err
    assert [letter for letter in out + err if letter != "\n" and not letter.isprintable()] == []
    if code:
        assert (out, err[:15]) == ("", "otel-pipeline: ")


@pytest.mark.parametrize("words", [(), ("--last",), ("ABAB",), ("abab", "--json")], ids=" ".join)
@pytest.mark.parametrize(
    "written", [TRACE.upper(), TRACE.capitalize(), "".join(f"\\u{ord(each):04x}" for each in TRACE)]
)
def test_show_of_an_id_that_is_written_otherwise(tmp_path, capsys, written, words):
    """OTLP's JSON has ids in capitals as well; escapes, which nobody writes, are found where no id is asked for."""
    (tmp_path / "x.jsonl").write_text(json.dumps(request(span())).replace(TRACE, written) + "\n")
    code = main(["show", *words, "--file", str(tmp_path / "x.jsonl")])
    out, err = capsys.readouterr()

    harmless(code, out, err)
    assert ("send x" in out) is not ("\\" in written and "ab" in "".join(words).lower())


@pytest.mark.parametrize(
    "content", ["", "\n" * 1000, "[" * 200_000, '{"resourceSpans":' * 50_000, "\x00" * 1000, "x" * 1_000_000, "\u202e"]
)
def test_show_of_no_lines(tmp_path, capsys, content):
    """What is no line at all."""
    (tmp_path / "x.jsonl").write_text(content)
    code = main(["show", "--file", str(tmp_path / "x.jsonl")])
    harmless(code, *capsys.readouterr())


@pytest.mark.skipif(os.name == "nt", reason="pipes and permissions of POSIX")
@pytest.mark.parametrize("kind", ["missing", "pipe", "device", "folder of nothing", "escape"])
def test_show_of_no_file(tmp_path, capsys, kind):
    """It is not waited for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder of nothing").mkdir()
    name = {"device": "/dev/zero", "escape": tmp_path / ESCAPE}.get(kind, tmp_path / kind)
    code = main(["show", "--file", str(name)])
    harmless(code, *capsys.readouterr())

    assert code == 2


LIGHT = {"state": ESCAPE, "why": ESCAPE, "look": ESCAPE, "figures": {"at_risk": 1e308, ESCAPE: ESCAPE}}
FLOW = {"destination": ESCAPE, "group": ESCAPE, "cluster": ESCAPE, "state": ESCAPE, "lights": {ESCAPE: LIGHT}}
STATE = {
    "schema": SCHEMA,
    "ok": False,
    "interval_s": 1,
    "clock_bound_s": 1e15,
    "reason": ESCAPE,
    "process": {"pid": 10**4000, "service": ESCAPE, "environment": ESCAPE},
    "written_at": ESCAPE,
    "ended_at": None,
    "flows": [{**FLOW, "lights": {ESCAPE: LIGHT, "order": LIGHT}}],
    "producers": [{name: value for name, value in FLOW.items() if name != "group"}],
    ESCAPE: ESCAPE,
}


@pytest.mark.parametrize("words", [(), ("--json",), ("scorer",)], ids=" ".join)
@pytest.mark.parametrize("reason", ["", ESCAPE])
def test_health(state_folder, capsys, words, reason):
    """Names of services, of lights, and all that they say."""
    (state_folder / "health").mkdir(parents=True)
    (state_folder / "health" / "x.json").write_text(json.dumps({**STATE, "reason": reason}))
    code = main(["health", *words])
    out, err = capsys.readouterr()

    assert (code, err) == (3 if words == ("scorer",) else 1, "")
    assert [letter for letter in out if letter != "\n" and not letter.isprintable()] == []


CONTRACTS = {
    "fields": {"schema": 1, "topic": ESCAPE, "fields": {ESCAPE: {"types": ["string"], "required": True}}},
    "types": {"schema": 1, "topic": "x", "fields": {"a": {"types": [ESCAPE], "required": True}}},
    "no list": {"schema": 1, "topic": "x", "fields": {"a": {"types": 5, "required": ESCAPE}}},
    "no field": {"schema": 1, "topic": "x", "fields": {ESCAPE: None}},
    "another schema": {"schema": ESCAPE, "topic": "x", "fields": {}},
    "no mapping": [ESCAPE],
    "deep": reduce(lambda inner, _: [inner], range(900), 1),
}


@pytest.mark.parametrize("words", [(), ("--json",)], ids=" ".join)
@pytest.mark.parametrize("content", CONTRACTS.values(), ids=CONTRACTS)
def test_contract(tmp_path, capsys, content, words):
    """Of either side."""
    (tmp_path / "hostile.json").write_text(json.dumps(content))
    (tmp_path / "plain.json").write_text(json.dumps({"schema": 1, "topic": "x", "fields": {}}))
    for files in (("hostile.json", "plain.json"), ("plain.json", "hostile.json")):
        code = main(["contract", "diff", *(str(tmp_path / name) for name in files), *words])
        harmless(code, *capsys.readouterr())


@pytest.mark.parametrize("content", ["", "[" * 200_000, "x" * 4_000_001])
def test_contract_of_nothing(tmp_path, capsys, content):
    """A sentence."""
    (tmp_path / "x.json").write_text(content)
    code = main(["contract", "diff", str(tmp_path / "x.json"), str(tmp_path / "x.json")])
    harmless(code, *capsys.readouterr())

    assert code == 2


ANYTHING = [
    None,
    True,
    -1,
    1.5,
    2**70,
    float("nan"),
    "",
    ESCAPE,
    "1700000000000000000",
    TRACE,
    [],
    {},
    [[]],
    [{}],
    {"stringValue": 5},
    {"arrayValue": 5},
    {"intValue": "x"},
    {"bytesValue": "%"},
]
"""What one part of a file is replaced by."""


def places(content):
    """Every part of a document, as the container and the key that it has there."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, each in inner:
        yield content, key
        yield from places(each)


def changed(content, chance):
    """The document with a part or two left out, renamed, or replaced."""
    found = copy.deepcopy(content)
    for _ in range(chance.randint(1, 3)):
        for container, key in chance.sample(at := list(places(found)), min(1, len(at))):
            how = chance.random()
            if how < 0.2:
                del container[key]
            elif how < 0.3 and isinstance(container, dict):
                container[ESCAPE] = container.pop(key)
            else:
                container[key] = copy.deepcopy(chance.choice(ANYTHING))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_whatever_part_is_changed(state_folder, tmp_path, capsys, monkeypatch, seed):
    """Files that are nearly right, at any width."""
    chance = random.Random(seed)
    (state_folder / "health").mkdir(parents=True)
    state = {**STATE, "process": {**STATE["process"], "pid": 1}}
    shown = [FILES[name] for name in ("link", "status", "offset", "hops", "partition", "time at the end")]
    for _ in range(25):
        monkeypatch.setenv("COLUMNS", str(chance.choice([1, 10, 40, 80, 200])))
        (tmp_path / "x.jsonl").write_text(json.dumps(changed(chance.choice(shown), chance)))
        words = chance.choice([(), ("--json",), ("--list",), ("--list", "--all", "--json")])
        harmless(main(["show", "--file", str(tmp_path / "x.jsonl"), *words]), *capsys.readouterr())
        (state_folder / "health" / "scorer-7-abcdefgh.json").write_text(json.dumps(changed(state, chance)))
        code = main(["health", *words[:1]] if words[:1] != ("--list",) else ["health"])
        out, err = capsys.readouterr()
        assert (code in {0, 1, 2, 3}, "fault of otel-pipeline" in err) == (True, False)
        assert [letter for letter in out + err if letter != "\n" and not letter.isprintable()] == []

"""`otel-pipeline contract` on an embedded broker, and on files."""

from __future__ import annotations

import json

import pytest
from kafka import KafkaProducer

from otel_pipeline.brokers.embedded import API_VERSION, embedded_broker
from otel_pipeline.cli.main import main
from otel_pipeline.contracts.contract import Contract, Field

TOPICS = {"orders": 2, "changed": 1, "few": 1, "empty": 1, "avro": 1, "mixed": 1, "again": 1}


@pytest.fixture(scope="module")
def broker():
    with embedded_broker(TOPICS) as bootstrap:
        yield bootstrap


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def send(broker, topic, values):
    producer = KafkaProducer(bootstrap_servers=broker, api_version=API_VERSION)
    for at, value in enumerate(values):
        content = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        producer.send(topic, value=content, key=str(at).encode())
    producer.flush()
    producer.close()


def order(at, **more):
    return {"id": at, "name": f"secret-{at}", "price": 1.5, **more}


def contract(*words, broker=None):
    reading = ("--bootstrap-servers", broker, "--client", "api_version=[2,3]") if broker else ()
    return main(["contract", *words, *reading])


def written(path, topic="orders", **fields):
    table = {"$": Field(("object",), True)}
    table.update({name: Field((types,), required) for name, (types, required) in fields.items()})
    path.write_text(Contract(topic, table).dumps())
    return str(path)


def test_record_then_check(broker, folder, capsys):
    """The file holds the shape and no value; what it was made from keeps it; what breaks it is code 1."""
    send(broker, "orders", (order(at) for at in range(400)))
    recorded = contract("record", "orders", broker=broker)
    text = (folder / "contracts" / "orders.json").read_text()

    assert (recorded, "400 messages, 4 paths" in capsys.readouterr().out, "secret" in text) == (0, True, False)
    assert Contract.loads(text).fields["name"] == Field(("str",), True)

    assert contract("check", broker=broker) == 0
    assert capsys.readouterr().out == "orders: 100 messages, no difference\n"

    send(broker, "orders", [{"id": "x", "name": None, "new": 1}] * 10)

    assert contract("check", "orders", "--messages", "300", broker=broker) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  id     type_changed   in 10 of 300  breaks",
        "  name   became_null    in 10 of 300  breaks",
        "  new    field_added    in 10 of 300",
        "  price  field_missing  in 10 of 300  breaks",
    ]


def test_check_of_what_only_adds(broker, folder, capsys):
    """Is said, and code 0."""
    send(broker, "changed", (order(at, new=1) for at in range(5)))
    written(folder / "changed.json", id=("int", True), name=("str", True), price=("float", True))
    code = contract("check", "changed", "--directory", str(folder), "--json", broker=broker)

    assert (code, json.loads(capsys.readouterr().out)) == (
        0,
        [
            {
                "topic": "changed",
                "messages": 5,
                "differences": [{"path": "new", "kind": "field_added", "messages": 5, "breaks": False}],
            }
        ],
    )


def test_a_short_recording(broker, folder, capsys):
    """Says that nothing is required yet."""
    send(broker, "few", [order(1), None, order(2)])
    contract("record", "few", broker=broker)
    out = capsys.readouterr().out

    assert ("2 messages" in out, "no field is required yet: that takes 300 messages" in out) == (True, True)


def test_recording_again_says_what_changed(broker, folder, capsys):
    """Compared with the file that was there."""
    send(broker, "again", (order(at) for at in range(400)))
    (folder / "contracts").mkdir()
    written(folder / "contracts" / "again.json", "again", id=("int", True), name=("str", True), price=("int", True))
    contract("record", "again", "--seconds", "1", broker=broker)

    assert capsys.readouterr().out.splitlines()[1:] == [
        "  compared with what was there: backward",
        "  price  int -> float: backward",
    ]


def test_values_that_are_not_json(broker, folder, capsys):
    """Left out when there are others, else it is an error; checked, they break."""
    send(broker, "mixed", [b"plain", order(1)])
    send(broker, "avro", [b"\0\0\0\0\7\2\4"])

    assert contract("record", "mixed", broker=broker) == 0
    assert "left out: 1 value is not JSON" in capsys.readouterr().out
    assert contract("record", "avro", broker=broker) == 2
    assert "no value of 'avro' could be read: 1 value is not JSON" in capsys.readouterr().err
    assert contract("check", "mixed", broker=broker) == 1
    assert "unreadable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("record", "empty"), "no value of 'empty' could be read: there are none"),
        (("record", "not-there"), "there is no topic 'not-there'"),
        (("record", "../x"), "'../x' is no name of a topic"),
        (("check",), "there is no contract in"),
        (("check", "orders"), "contract record orders` writes it"),
        (("record", "orders", "--client", "wrong"), "--client 'wrong' is not NAME=VALUE"),
        (("record", "orders", "--client", "no_such=1"), "no consumer can be made"),
    ],
)
def test_what_cannot_be_read(broker, folder, capsys, words, said):
    """Is said with its remedy."""
    code = contract(*words, "--messages", "1", broker=broker)

    assert (code, said in capsys.readouterr().err) == (2, True)


def test_no_broker(folder, capsys):
    """Is said, not waited for."""
    code = main(["contract", "record", "orders", "--bootstrap-servers", "127.0.0.1:1"])

    assert (code, "127.0.0.1:1" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(("require", "code"), [(None, 0), ("forward", 0), ("backward", 1), ("full", 1)])
def test_diff(folder, capsys, require, code):
    """Code 1 when what is required does not hold."""
    old = written(folder / "old.json", id=("int", True))
    new = written(folder / "new.json", id=("int", True), name=("str", True))

    assert contract("diff", old, new, *(("--require", require) if require else ())) == code
    assert capsys.readouterr().out == (
        "  name  added required: forward\n"
        "forward: readers with the old contract can read new values, not the other way round; update producers first\n"
    )


def test_diff_as_json(folder, capsys):
    """For machines."""
    old = written(folder / "old.json", id=("int", True))
    new = written(folder / "new.json", id=("float", True))
    contract("diff", old, new, "--json")

    assert json.loads(capsys.readouterr().out) == {
        "verdict": "backward",
        "changes": [{"path": "id", "what": "int -> float", "backward": True, "forward": False}],
    }


def test_diff_of_the_same(folder, capsys):
    """Nothing changed: everything holds."""
    old = written(folder / "old.json", id=("int", True))

    assert (contract("diff", old, old, "--require", "full"), capsys.readouterr().out) == (0, "nothing changed\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory\n  NEW names a file that can be read"),
        ("{", "is no contract: not JSON"),
        ('{"a": 1}', "is no contract: there is no mapping `fields`\n  NEW must be what"),
        (b"\xff", "is no contract"),
    ],
)
def test_files_that_are_none(folder, capsys, content, said):
    """Named with the argument and what to do."""
    old = written(folder / "old.json", id=("int", True))
    if content is not None:
        (folder / "new.json").write_bytes(content if isinstance(content, bytes) else content.encode())

    assert (contract("diff", old, "new.json"), said in capsys.readouterr().err) == (2, True)

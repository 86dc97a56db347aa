"""A configuration file is read whole, or not at all: its size, its parts, and how deep they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_pipeline.config import location, yaml_file
from otel_pipeline.config.config import Problem
from otel_pipeline.config.loading import load
from otel_pipeline.owners import own_settings
from tests.limits import below_at_above


@pytest.fixture
def read():
    """Whether a text is read, and what is said otherwise."""

    def reading(text):
        said = []
        found = yaml_file.read(Path("x.yaml"), text.encode(), {}, lambda _where, what, _remedy: said.append(what))
        return found is not None and not said

    return reading


@below_at_above("config.location.MAX_BYTES", 1_000_000, True, True, False)
@pytest.mark.parametrize("is_named", [True, False])
def test_the_bytes_of_a_file(tmp_path, size, outcome, is_named):
    """A million, named or found."""
    path, said = tmp_path / "otel_pipeline.yaml", []
    path.write_bytes(b"x" * size)
    found = location.find(
        path if is_named else "", {}, tmp_path, lambda _where, what, _remedy: said.append(what), said.append
    )

    assert (found == (path, b"x" * size), said) == (outcome, [] if outcome else ["is larger than 1000000 bytes"])


@below_at_above("config.yaml_file.MAX_NODES", 10_000, True, True, False)
@pytest.mark.parametrize("kind", ["list", "mapping", "aliases"])
def test_the_nodes_of_a_file(read, size, outcome, kind):
    """Ten thousand values, lists and sections; what an alias repeats is counted again."""
    text = {
        "list": "a: [" + ", ".join(["1"] * (size - 2)) + "]",
        "mapping": "\n".join(f"k{number}: 1" for number in range(size - 1)),
        # The root, ten lists of 998, and two more: 9,983.
        "aliases": f"a: &a [{'1, ' * 996} 1]\nb: [{'*a, ' * 8} *a]\nc: [{'1, ' * (size - 9984)} 1]",
    }[kind]

    assert read(text) is outcome


@below_at_above("config.yaml_file.MAX_DEPTH", 20, True, True, False)
@pytest.mark.parametrize("kind", ["sections", "lists", "aliases"])
def test_the_depth_of_a_file(read, size, outcome, kind):
    """Twenty sections or lists one in another, wherever an alias puts them."""
    text = {
        "sections": "".join(f"{'  ' * at}a:\n" for at in range(size)).rstrip() + " 1",
        "lists": f"a: {'[' * (size - 1)}1{']' * (size - 1)}",
        "aliases": f"a: &a {'[' * 10}1{']' * 10}\nb: {'[' * (size - 11)}*a{']' * (size - 11)}",
    }[kind]

    assert read(text) is outcome


@below_at_above("config.config.MAX_PART", 400, "x" * 399, "x" * 400, "x" * 400 + "...")
def test_the_length_of_a_sentence(size, outcome):
    """What a file can make as long as it likes is cut."""
    assert str(Problem("", "x" * size, "remedy")) == f"{outcome}; remedy"


def test_a_sentence_steers_no_terminal(tmp_path):
    """It is logged when a program starts, whatever names and values a file has."""
    (tmp_path / "otel_pipeline.yaml").write_text('"\\e[2J\\u202e": 1\nstrict: "\\x07"\n')
    config = load({}, own_settings(), environ={}, directory=tmp_path, raises=False)

    assert len(config.problems) == 2
    assert [str(problem).isprintable() for problem in config.problems] == [True, True]


@below_at_above("config.loading.MAX_PROBLEMS", 100, 99, 100, 101)
def test_how_many_mistakes_are_said(tmp_path, size, outcome):
    """Each of them is logged when a program starts."""
    (tmp_path / "otel_pipeline.yaml").write_text("".join(f"k{number}: 1\n" for number in range(size)))
    found = load({}, own_settings(), environ={}, directory=tmp_path, raises=False).problems

    assert len(found) == outcome
    assert [str(problem) for problem in found[100:]] == [
        "1 more mistakes; mend those first, or name the right file"
    ] * max(0, size - 100)


HOSTILE = {
    "a variable in a variable, without end": 'a: "' + "${a:-" * 150_000 + '"',
    "a variable without a name, without end": 'a: "' + "${" * 400_000 + '"',
    "signs without end": "a: " + "$" * 900_000,
    "lists without end": "[" * 900_000,
    "sections without end": "a: " + "{a: " * 200_000,
    "entries without end": "- " * 450_000,
    "names without end": "{" + "a," * 400_000,
    "mistakes without end": "".join(f"k{number}: 1\n" for number in range(90_000)),
    "unknown names without end": "disable: [" + ",".join(f"k{number}" for number in range(9_900)) + "]",
    "laughs": "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{at}: &a{at} [" + ",".join([f"*a{at - 1}"] * 9) + "]\n" for at in range(1, 12)),
    "a list of itself": "a: &a [*a]",
    "a list as a name": "? [a, b]\n: 1\nservice_name: x",
    "two documents": "service_name: x\n---\nservice_name: y",
    "another's type": '!!python/object/apply:os.system ["touch pwned"]',
    "no text": b"\x00\x01",
    "another's text": "service_name: x".encode("utf-16"),
    "comments": "#\n" * 490_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_a_file_costs_is_bounded(tmp_path, monkeypatch, content):
    """Whatever it is made of: nothing raises, nothing runs, and it takes steps by its size and not by its square."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "otel_pipeline.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    config = load({}, own_settings(), environ={}, directory=tmp_path, raises=False)

    assert len(config.problems) <= 101
    assert sorted(tmp_path.iterdir()) == [path]

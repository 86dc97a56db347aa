"""What the pages say works: code runs or at least compiles against what is there, and links lead somewhere."""

from __future__ import annotations

import ast
import itertools
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import kafka as client
import pytest

import otel_pipeline
from otel_pipeline.engine import inference
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.patching import DriftedError, Patches

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "collector-config/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
FENCE = re.compile(r"```.*?```", re.DOTALL)
FOLDERS = ("otel_pipeline", "tests", "scripts", "docs", "examples", "real", "collector-config")
NAMED = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w/?|(?<![\w./-])[\w.-]+\.md\b")
"""Paths of the repository, and pages by their name alone."""
SECTION = re.compile(r"(docs/design/\w+\.md), \"([^\"]+)\"")


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


def sources():
    """Every text of ours that may name a page: code, tests, pages, settings."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("no checkout")
    for name in listed.stdout.decode().splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yaml", ""} and path.is_file() and path != Path(__file__):
            yield path, path.read_text("utf-8")


def headings(page):
    """The headings of a page, in their order; those in code are none."""
    return re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in headings(page):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(next(each for each in _numbered(anchor) if each not in found))
    return found


def _numbered(anchor):
    return itertools.chain([anchor], (f"{anchor}-{number}" for number in itertools.count(1)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """To a file of this repository, and to a heading of it where they name one."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8"))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            wrong.append(target)

    assert wrong == []


def test_anchors_are_those_of_github(tmp_path):
    """Lower case, punctuation out, a dash for each space; the second of a name has a number."""
    page = tmp_path / "page.md"
    page.write_text("# What's `new`?\n## A b-c_d\n```sh\n# no heading\n```\n## A [link](x.md), twice\n## A b-c_d\n")

    assert anchors(page) == {"whats-new", "a-b-c_d", "a-link-twice", "a-b-c_d-1"}


def test_what_is_named_is_there():
    """Every path of the repository, and every page, that code, tests or pages name."""
    missing = {}
    for path, text in sources():
        for name in NAMED.findall(text):
            near = (path.parent / name, ROOT / name, ROOT / "docs" / name, ROOT / "docs" / "design" / name)
            if not any(each.exists() for each in near):
                missing.setdefault(name, path.relative_to(ROOT).as_posix())

    assert missing == {}


def test_sections_that_code_names_are_there():
    """`docs/design/order.md, "The nine rules"` is a heading of that page."""
    named = {
        (page, section)
        for path, text in sources()
        if path.suffix == ".py"
        for page, section in SECTION.findall(re.sub(r"\s*\n\s*(?:# )?", " ", text))
    }

    assert [(page, section) for page, section in named if section not in headings(ROOT / page)] == []
    assert len(named) > 3


def constants():
    """The numbers of the package that have a name, by it; several files may use one name."""
    found = {}
    for path in (ROOT / "otel_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            if isinstance(node.value, ast.Constant) and type(node.value.value) in {int, float}:
                found.setdefault(node.targets[0].id, set()).add(node.value.value)
    return found


def test_numbers_of_constants_are_those_of_the_code():
    """Wherever a design page has a constant's name with its value behind it."""
    known, units = constants(), {"": 1, "s": 1, "ms": 1e-3, "ppm": 1e-6}
    named = re.compile(r"((?:`_?[A-Z][A-Z_]+`(?:, )?)+) (\d[\d,]*(?:\.\d+)?)(?: (s|ms|ppm)\b)?")
    pages = "\n".join(page.read_text("utf-8") for page in sorted((ROOT / "docs" / "design").glob("*.md")))
    said = {
        name: float(value.replace(",", "")) * units[unit]
        for names, value, unit in named.findall(pages)
        for name in re.findall(r"\w+", names)
    }

    assert {
        name: value
        for name, value in said.items()
        if not any(math.isclose(value, each) for each in known.get(name, ()))
    } == {}
    assert len(said) > 25


def test_decisions_are_questions():
    """Each with a number of its own, of one form, 30 lines at most, and all of them on the list."""
    folder = ROOT / "docs" / "decisions"
    files = sorted(folder.glob("[0-9]*.md"))
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \|$", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    titles = [path.read_text("utf-8").splitlines()[0] for path in files]

    assert [(f"# {number}. {title}", name) for number, title, name in listed] == [
        (title, path.name) for title, path in zip(titles, files, strict=True)
    ]
    assert [int(number) for number, _, _ in listed] == sorted({int(path.name[:4]) for path in files})
    for path in files:
        text = path.read_text("utf-8")
        assert re.findall(r"^(?:# \d+\. .+\?|\*\*.+?\*\*)", text, re.MULTILINE)[1:] == [
            "**Context.**",
            "**Decision.**",
            "**What we gave up.**",
        ], path.name
        assert text.count("\n") <= 30, path.name


@pytest.fixture
def nextlib(monkeypatch):
    """The library that the page on model libraries instruments: a model that calls itself for each row."""

    class Model:
        def predict(self, rows):
            if not rows:
                raise ValueError("no rows")
            return rows if len(rows) == 1 else [row for each in rows for row in self.predict([each])]

    module = ModuleType("nextlib")
    module.Model = Model
    monkeypatch.setitem(sys.modules, "nextlib", module)
    return module


@pytest.fixture
def adapter():
    """The code on the page."""
    page = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    _, source = BLOCK.findall(page.partition("\n## Add a model library\n")[2].partition("\n## ")[0])
    names = {}
    exec(compile(source, "docs/contributing.md", "exec"), names)  # noqa: S102
    return names["instrument"]


def test_the_model_library_on_the_page(telemetry, nextlib, adapter):
    """One call per outermost predict, with its rows; results and exceptions are the library's own."""
    telemetry.instrument()
    patches, guard = Patches(Guard()), Guard()
    adapter(patches, inference._inferences, guard)
    results = [nextlib.Model().predict([1, 2, 3])]
    with pytest.raises(ValueError, match="no rows"):
        nextlib.Model().predict([])
    patches.restore()
    results.append(nextlib.Model().predict([4]))

    assert results == [[1, 2, 3], [4]]
    assert telemetry.tree(["otel_pipeline.inference.rows", "otel_pipeline.model.library", "error.type"]) == (
        "predict Model INTERNAL otel_pipeline.inference.rows=3 otel_pipeline.model.library=nextlib\n"
        "predict Model INTERNAL ERROR"
        " otel_pipeline.inference.rows=0 otel_pipeline.model.library=nextlib error.type=ValueError"
    )


def test_a_model_library_that_has_changed_is_left_alone(telemetry, nextlib, adapter):
    """Nothing is patched where a signature is not the known one."""
    telemetry.instrument()
    original = nextlib.Model.predict = lambda self, rows, device=None: rows

    with pytest.raises(DriftedError):
        adapter(Patches(Guard()), inference._inferences, Guard())
    assert nextlib.Model.predict is original


TEST_ID = re.compile(r"\b(tests/[\w/]+\.py)::(\w+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_are_there(page):
    """A promise whose test is gone is none."""
    missing = [
        f"{file}::{name}"
        for file, name in TEST_ID.findall(page.read_text("utf-8"))
        if f"def {name}(" not in (ROOT / file).read_text("utf-8")
    ]

    assert missing == []

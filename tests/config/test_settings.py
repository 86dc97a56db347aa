"""An option is one declaration: the field of a dataclass, from which everything else is made."""

from __future__ import annotations

import importlib.util
import inspect
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

import pytest

import otel_pipeline
from otel_pipeline import installed, owners
from otel_pipeline.cli.main import main
from otel_pipeline.config.environment import CODES, Surroundings
from otel_pipeline.config.loading import load, table_of
from otel_pipeline.config.options import Things
from otel_pipeline.config.schema import schema
from otel_pipeline.detectors import keys_in_hand
from otel_pipeline.owners import own_settings
from otel_pipeline.settings import DEFAULTS, REQUIRED, Names, option, things

ROOT = Path(__file__).parents[2]
Strength = Literal["mild", "strong"]


@dataclass(frozen=True)
class Cup:
    """A thing that has a name."""

    name: str
    size: int = option("cups.*.size", "count", REQUIRED, "Its size in ml.")
    sugar: bool = option("cups.*.sugar", "boolean", False, "Whether there is sugar.")


@dataclass(frozen=True)
class Tea:
    """What somebody declares who is not of this package."""

    kettle: str
    boil_ms: int = option("tea.boil", "duration", 3000, "How long it boils.", per_environment={"local": 500})
    leaves: tuple[str, ...] = option("tea.leaves", "names", (), "Which leaves.")
    book: Path = option("tea.book", "path", Path("book.txt"), "Where it is written.")
    shelves: dict[str, int] = option("shelves", "count", {"top": 1}, "Where.", names=Names("shelf", "name each shelf"))
    cups: tuple[Cup, ...] = things("cups", Cup, "What it is drunk from.", names=Names("cup", "name each cup"))


@dataclass(frozen=True)
class TeaOfDestination:
    """The same for destinations, beside an option of all of them."""

    pot_s: float = option("tea.pot", "duration", 60.0, "How long it stays in the pot.")
    strength: Strength = option("destinations.*.strength", Strength, "strong", "How strong it is.")


OWNERS = (Tea, TeaOfDestination)
FILE = """\
tea: {boil: 4s, pot: 90s}
shelves: {low: 2}
cups:
  mine: {size: 200}
destinations:
  "orders*": {strength: mild}
environments:
  production: {tea: {leaves: [assam]}}
"""


@pytest.fixture
def read(tmp_path):
    def read_it(text=FILE, environment="production", **environ):
        (tmp_path / "otel_pipeline.yaml").write_text(text)
        around = Surroundings({}, frozenset(), False, lambda _path: False)
        owners = (*own_settings(), *OWNERS)
        return load({"environment": environment}, owners, environ=environ, directory=tmp_path, around=around)

    return read_it


def problems(config):
    return [str(problem).replace(f"{config.file}:", "line ") for problem in config.problems]


def test_the_file_is_read_for_it(read, tmp_path):
    """Each value in the field's form and unit: ms, a path from the file's folder, a mapping over its default."""
    config = read()

    assert problems(config) == []
    assert config.of(Tea, kettle="steel") == Tea(
        "steel", 4000, ("assam",), tmp_path / "book.txt", {"top": 1, "low": 2}, (Cup("mine", 200),)
    )
    assert [config.destination(TeaOfDestination, name) for name in ("orders.v1", "payments")] == [
        TeaOfDestination(90, "mild"),
        TeaOfDestination(90, "strong"),
    ]
    assert config.of(TeaOfDestination) == TeaOfDestination(90)


def test_variables_and_the_environments_defaults_are_read_for_it(read):
    """The variable's name comes from the path."""
    found = [
        config.of(Tea, kettle="").boil_ms
        for config in (read("", "local"), read("", "production"), read("", "local", OTEL_PIPELINE_TEA_BOIL="2s"))
    ]

    assert found == [500, 3000, 2000]


MISTAKES = {
    "a misspelt option": ("tea: {boill: 4s}", "line 1: tea.boill is no option; remove it; did you mean tea.boil?"),
    "a bad value": ("tea:\n  boil: 4", "line 2: tea.boil is 4; give a duration such as 500ms, 15s, 15m, 2h or 28d"),
    "a value in place of a mapping": ("shelves: top", "line 1: shelves is no mapping; name each shelf"),
    "a bad value of a shelf": ("shelves: {top: -1}", "line 1: shelves.top is -1; give a whole number above 0"),
    "a misspelt option of a cup": (
        "cups: {mine: {size: 1, suger: true}}",
        "line 1: cups.mine.suger is no option; remove it; did you mean sugar?",
    ),
    "a cup without its size": ("cups:\n  mine:", "line 2: cups.mine.size is missing; give a whole number above 0"),
    "a misspelt choice of a destination": (
        "destinations: {orders: {strength: strng}}",
        "line 1: destinations.orders.strength is 'strng'; give one of mild, strong; did you mean strong?",
    ),
    "a bad value of another environment": (
        "environments:\n  staging: {tea: {leaves: 1}}",
        "line 2: environments.staging.tea.leaves is 1; give a list of names",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_its_mistakes_are_named(read, case):
    """With line and remedy; what else is said holds."""
    text, expected = MISTAKES[case]

    assert problems(read(text)) == [expected]


def test_the_schema_describes_it():
    """Type and help of each; what is required at the top is not in an environment."""
    described = schema(table_of((*own_settings(), *OWNERS)))["properties"]
    there = described["environments"]["additionalProperties"]["properties"]
    count = {"type": ["integer", "string"]}

    assert described["tea"]["properties"]["boil"]["description"] == "How long it boils."
    assert described["shelves"] == {"type": "object", "description": "Where.", "additionalProperties": count}
    assert described["destinations"]["additionalProperties"]["properties"]["strength"] == {
        "description": "How strong it is.",
        "enum": ["mild", "strong"],
    }
    assert described["cups"]["additionalProperties"]["required"] == ["size"]
    assert there["tea"] == described["tea"]
    assert "required" not in there["cups"]["additionalProperties"]


def test_the_page_has_its_rows():
    """Type, default by environment, variable and help."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "scripts" / "generate_configuration.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    pages = [generate.page(table_of(owners)).splitlines() for owners in (own_settings(), (*own_settings(), *OWNERS))]

    assert [line for line in pages[1] if line not in pages[0]] == [
        "| `tea.boil` | duration | 3s; local: 500ms | `OTEL_PIPELINE_TEA_BOIL` |  | How long it boils. |",
        "| `tea.leaves` | list of names |  | `OTEL_PIPELINE_TEA_LEAVES` |  | Which leaves. |",
        "| `tea.book` | text | book.txt | `OTEL_PIPELINE_TEA_BOOK` |  | Where it is written. |",
        "| `tea.pot` | duration | 1m | `OTEL_PIPELINE_TEA_POT` |  | How long it stays in the pot. |",
        "| `destinations.<pattern>.strength` | mild \\| strong | strong | How strong it is. |",
        '| `shelves.<shelf>` | whole number | `"top": 1` | Where. |',
        "| `cups.<cup>` | | | What it is drunk from. |",
        "| `cups.<cup>.size` | whole number | required | Its size in ml. |",
        "| `cups.<cup>.sugar` | boolean | false | Whether there is sugar. |",
        "| `tea.boil` | 500ms | 3s | 3s | 3s | 3s |",
    ]


THEIRS = """\
from dataclasses import dataclass, replace
from otel_pipeline.detectors.measures import Detector
from otel_pipeline.registry import Adapter
from otel_pipeline.settings import option

@dataclass(frozen=True)
class Tea:
    boil_s: float = option("{path}", "duration", {default}, "How long it boils.")

adapter = Adapter("their-tea", "their_tea", "their_tea", ">=1", settings=(Tea,))
instrument = print
detector = Detector("tea", settings=(Tea,))
other = Detector("tea", settings=(dict,))
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """An installed package that brings options, by the entry point for detectors unless another one is named."""

    def installed(path="tea.boil", default="3.0", target="their_tea:detector", group="otel_pipeline_observer"):
        information = tmp_path / "site" / "their_tea-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tea\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[{group}]\ntea = {target}\n")
        (tmp_path / "site" / "their_tea.py").write_text(THEIRS.format(path=path, default=default))
        monkeypatch.syspath_prepend(tmp_path / "site")
        monkeypatch.chdir(tmp_path)

    yield installed
    sys.modules.pop("their_tea", None)


@pytest.mark.parametrize("kind", ["adapter", "detector"])
def test_an_installed_package_brings_options(install, tmp_path, capsys, telemetry, kind):
    """`config` shows them, `config check` and the schema know them, and their owner gets what the file says."""
    group = {"adapter": "otel_pipeline_adapter", "detector": "otel_pipeline_observer"}[kind]
    install(target=f"their_tea:{kind}", group=group)
    (tmp_path / "otel_pipeline.yaml").write_text("tea: {boil: 4s}\n")
    main(["config", "--json", "--environment", "production"])
    listed = json.loads(capsys.readouterr().out)["tea.boil"]
    checked = main(["config", "check"])
    main(["config", "--schema"])
    described = json.loads(capsys.readouterr().out.partition("\n")[2])
    pipe = telemetry.instrument(config_file="otel_pipeline.yaml")
    tea = pipe._engine.settings.configured.of(sys.modules["their_tea"].Tea)

    assert listed == {"value": 4.0, "source": f"file: {tmp_path}/otel_pipeline.yaml:1"}
    assert (checked, described["properties"]["tea"]["properties"]["boil"]["type"]) == (0, "string")
    assert (pipe.status().problems, tea.boil_s) == ((), 4.0)


def test_what_an_adapter_has_wrong_is_left_out(install, telemetry):
    """Its options alone: the adapter is used all the same."""
    install(path="strict", target="their_tea:adapter", group="otel_pipeline_adapter")
    status = telemetry.instrument().status()

    assert status.problems == ("the options of their_tea are left out: Tea declares strict, which is declared already",)
    assert [each.state for each in status.adapters if each.name == "their-tea"] == ["instrumented"]


def test_entry_points_are_read_once(telemetry, monkeypatch):
    """The files of all installed distributions are read for it."""
    asked = []
    read = metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda **group: asked.append(group) or read(**group))
    monkeypatch.setattr(installed, "_read", None)
    telemetry.instrument()

    assert asked == [{}]


def test_a_detector_declares_in_its_own_module(monkeypatch):
    """One file for a detector with an option: no list names its class."""
    monkeypatch.setattr(Tea, "__module__", keys_in_hand.__name__)
    monkeypatch.setattr(keys_in_hand, "Tea", Tea, raising=False)

    assert [owner for owner in own_settings() if owner.__name__ == "Tea"] == [Tea]


def test_an_adapter_names_its_classes(monkeypatch):
    """In its row of the registry, so that no client library is imported to know its options."""
    adapters = (replace(owners.ADAPTERS[0], settings=(Tea,)), *owners.ADAPTERS[1:])
    monkeypatch.setattr(owners, "ADAPTERS", adapters)

    assert [owner for owner in own_settings() if owner.__name__ == "Tea"] == [Tea]


LEFT_OUT = {
    "declared already": ({"path": "strict"}, "Tea declares strict, which is declared already"),
    "an option of ours is its group": (
        {"path": "strict.tea"},
        "strict is declared as an option and as a group of options",
    ),
    "a group of ours is its option": (
        {"path": "process"},
        "process is declared as an option and as a group of options",
    ),
    "below no mapping": ({"path": "tea.*.boil"}, "Tea declares tea.*.boil: tea is no mapping of named things"),
    "no path": ({"path": "a.b.c"}, "Tea declares a.b.c: write name, group.name or things.*.name"),
    "a bad default": ({"default": "-1.0"}, "tea.boil has the default -1.0, which is no duration"),
    "no settings class": ({"target": "their_tea:other"}, "<class 'dict'> is no dataclass with options"),
    "what cannot be loaded": ({"target": "their_tea:tee"}, "module 'their_tea' has no attribute 'tee'"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_does_not_fit_is_left_out_and_said(install, telemetry, case):
    """The service starts, with our own options, whatever is installed beside."""
    arguments, reason = LEFT_OUT[case]
    install(**arguments)
    pipe = telemetry.instrument()
    target = arguments.get("target", "their_tea:detector")

    assert pipe.active
    assert pipe.status().problems[0] == f"the options of {target} are left out: {reason}"
    assert len(pipe.status().problems) == (2 if "loaded" in case else 1)


def test_nothing_of_others_is_imported_where_the_sdk_is_switched_off(install, telemetry, monkeypatch):
    """And nothing raises, however wrong the configuration is."""
    install()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    pipe = telemetry.instrument(strict=True, sample_rate=7)

    assert (pipe.active, pipe.status().reason) == (False, "OTEL_SDK_DISABLED is true")
    assert "their_tea" not in sys.modules


def test_an_owner_that_was_not_read_for_is_told(read):
    """Rather than given defaults: its options would be read by nobody."""
    with pytest.raises(LookupError, match="the configuration was not read for LateSettings"):
        read("").of(dataclass(type("LateSettings", (), {})))


def test_where_nobody_reads_a_configuration_everything_has_its_default():
    """For tests of an owner alone."""
    assert DEFAULTS.of(Tea, kettle="k") == Tea("k")
    assert DEFAULTS.destination(TeaOfDestination, "orders") == TeaOfDestination()


def own_rows():
    table = table_of(own_settings())
    for row in (*table.rows.values(), *table.named.values()):
        yield row
        if isinstance(row, Things):
            yield from row.rows.values()


def test_our_own_defaults_are_values_that_their_options_may_have():
    """Those of the environments as well."""
    table_of(own_settings()).check()


def test_each_help_is_one_sentence_that_fits_into_a_row():
    """For the page, the schema and editors."""
    assert [row.name for row in own_rows() if not row.option.help.endswith(".") or "\n" in row.option.help] == []


def test_environments_with_defaults_of_their_own_are_known_and_stand_in_the_page():
    """Its table has a column for each of them, and one for production and all others."""
    special = [row.option.per_environment for row in own_rows()]

    assert {name for each in special for name in each} <= CODES.keys() - {"preproduction", "production"}


def test_each_keyword_of_instrument_is_an_option():
    """But for the file's name, and one that has no effect yet."""
    keywords = {name for name in inspect.signature(otel_pipeline.instrument).parameters if not name.startswith("_")}
    declared = {row.option.argument for row in own_rows()} - {None}

    assert keywords - declared == {"capture_content", "config_file"}
    assert declared <= keywords


def test_options_are_declared_without_telemetry():
    """So that a configuration can be read and checked where nothing else of ours is loaded."""
    modules = [f"otel_pipeline.{name}.settings" for name in ("engine", "contracts", "detectors", "verdict", "export")]
    program = (
        f"import sys, importlib\nfor name in {[*modules, 'otel_pipeline.config.loading']}: importlib.import_module(name)\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'opentelemetry', 'yaml', 'wrapt', 'kafka'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_the_sdk_is_not_loaded_to_know_all_options():
    """Detectors declare options in their own modules, which need OpenTelemetry's API."""
    program = (
        "import sys\nfrom otel_pipeline.owners import own_settings\nown_settings()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk') or name == 'yaml'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("given", [None, False])
def test_no_content_is_what_there_is(telemetry, given):
    """Nothing to be said of it."""
    assert telemetry.instrument(capture_content=given).status().problems == ()


def test_content_is_asked_for_in_vain(telemetry):
    """Said, as long as no content stands on spans."""
    assert telemetry.instrument(capture_content=True).status().problems == (
        "capture_content has no effect yet: no content stands on spans; leave it out",
    )

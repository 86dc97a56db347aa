"""Destinations, objectives, mirrors: merged by name, the most specific pattern, every mistake with line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_pipeline.config.environment import Surroundings
from otel_pipeline.config.loading import load
from otel_pipeline.config.patterns import said_of
from otel_pipeline.contracts.settings import ContractSettings, DestinationContract
from otel_pipeline.detectors.settings import DestinationSettings, HealthSettings, Objective
from otel_pipeline.engine.settings import DestinationTrust, EngineSettings
from otel_pipeline.owners import own_settings
from otel_pipeline.verdict.settings import VerdictSettings

EXAMPLE = Path(__file__).parents[2] / "examples" / "otel_pipeline.yaml"
ORDERS_FRESH = Objective("orders_fresh", threshold_s=0.5, objective=0.99, destination="orders", group="scorer")


@pytest.fixture
def configured(tmp_path):
    def configure(text, environment=None, **environ):
        path = tmp_path / "otel_pipeline.yaml"
        path.write_text(text)
        around = Surroundings({}, frozenset(), False, lambda _path: False)
        arguments = {"environment": environment} if environment else {}
        return load(arguments, own_settings(), environ=environ, directory=tmp_path, around=around, raises=False)

    return configure


def problems(config):
    return [str(problem).replace(f"{config.file}:", "line ") for problem in config.problems]


def test_the_whole_file(configured, tmp_path):
    """The example, whose every line is right, in staging: only the threshold differs there."""
    config = configured(EXAMPLE.read_text(), "staging")

    assert problems(config) == []
    assert config.of(ContractSettings) == ContractSettings(tmp_path / "contracts")
    assert config.of(VerdictSettings) == VerdictSettings("auto", 1)
    assert config.of(HealthSettings) == HealthSettings(
        mirrors={"orders-copy": "orders"},
        objectives=(Objective("decisions_fresh", threshold_s=10, objective=0.99, model="churn-v3"), ORDERS_FRESH),
    )
    assert config.of(EngineSettings).max_foreign_traces_per_second is None
    assert config.destination(DestinationSettings, "orders") == DestinationSettings(
        foreign={"local": "allow", "staging": "allow", "*": "flag"}, ordered=True, expect_every_s=300
    )
    assert config.destination(DestinationContract, "orders") == DestinationContract("file")
    assert config.destination(DestinationSettings, "payments") == DestinationSettings({"local": "reject", "*": "flag"})


def test_without_a_file(tmp_path):
    """Each owner has what it has where nobody reads a configuration, but that paths begin at the working folder."""
    config = load({"environment": "production"}, own_settings(), environ={}, directory=tmp_path)
    of_destinations = {DestinationContract, DestinationSettings, DestinationTrust}

    for owner in set(own_settings()) - of_destinations - {ContractSettings}:
        assert config.of(owner) == owner()
    for owner in of_destinations:
        assert config.destination(owner, "orders") == owner()
    assert config.of(ContractSettings) == ContractSettings(Path.cwd() / "contracts")


@pytest.mark.parametrize(
    ("environment", "lost_after_s", "max_traces"),
    [
        ("local", 5, None),
        ("test", 5, None),
        ("development", 150, None),
        ("staging", 150, None),
        ("preproduction", 150, 1),
        ("production", 150, 1),
        ("kundentest", 150, 1),
        (None, 150, 1),
    ],
)
def test_what_the_environment_changes(configured, environment, lost_after_s, max_traces):
    """A gap is given up early on a laptop; other environments decide without limit only where nothing is at stake."""
    config = configured("", environment)

    assert config.of(HealthSettings).lost_after_s == lost_after_s
    assert config.of(EngineSettings).max_foreign_traces_per_second == max_traces


def test_variables(configured, tmp_path):
    """Of the single values; paths begin at the file's folder, from the variables as well."""
    config = configured(
        "health: {interval: 1s}",
        "production",
        OTEL_PIPELINE_CONTRACTS_DIRECTORY="/srv/contracts",
        OTEL_PIPELINE_CONTRACTS_LEARN_MESSAGES="50",
        OTEL_PIPELINE_HEALTH_STATE_FILE="state/scorer.json",
        OTEL_PIPELINE_HEALTH_INTERVAL="2s",
        OTEL_PIPELINE_HEALTH_STUCK_AFTER="1m",
        OTEL_PIPELINE_HEALTH_LOST_AFTER="3m",
        OTEL_PIPELINE_HEALTH_ON_REJECT="raise",
        OTEL_PIPELINE_FOREIGN_SAMPLING_MAX_TRACES_PER_SECOND="unlimited",
    )

    assert config.of(ContractSettings) == ContractSettings(Path("/srv/contracts"), 50)
    assert config.of(VerdictSettings) == VerdictSettings(tmp_path / "state" / "scorer.json", 2)
    assert config.of(HealthSettings) == HealthSettings(stuck_after_s=60, lost_after_s=180, on_reject="raise")
    assert config.of(EngineSettings).max_foreign_traces_per_second is None


PATTERNS = {
    "the exact name before a pattern": ({"orders": "a", "orders*": "b"}, "a"),
    "whatever the order in the file": ({"orders*": "b", "orders": "a"}, "a"),
    "more literal characters before fewer": ({"o*": "a", "ord*": "b", "or*": "c"}, "b"),
    "a class is no literal character": ({"[o][r]*": "a", "o*": "b"}, "b"),
    "one character before any number": ({"order*": "a", "order?": "b"}, "b"),
    "of equals the first": ({"ord*": "a", "*ers": "b"}, "a"),
    "the star last": ({"*": "a", "??????": "b"}, "b"),
    "no pattern of another": ({"*": "a", "orders.v1": "b", "Orders": "c", "order": "d"}, "a"),
    "a name that looks like a pattern": ({"orders[1]": "a", "orders*": "b"}, "b"),
}


@pytest.mark.parametrize("case", PATTERNS)
def test_the_most_specific_pattern(case):
    """By name, then by literal characters."""
    patterns, expected = PATTERNS[case]

    assert said_of("orders", {pattern: {"trust": said} for pattern, said in patterns.items()}) == {"trust": expected}


def test_each_option_is_of_the_most_specific_pattern_that_says_it(configured):
    """Also where a pattern comes from the environment; policies by origin, up to the pattern that says any other."""
    text = """\
destinations:
  "*": {trust: none, foreign: {local: reject, "*": reject}, contract: ignore, expect_every: 1h}
  "orders.*": {foreign: {"*": allow}, contract: learn}
  orders.v1: {foreign: {staging: flag}, ordered: true}
environments:
  production: {destinations: {"orders.v?": {same_key: true}, orders.v1: {foreign: {test: allow}}}}
"""
    config = configured(text, "production")

    assert config.destination(DestinationTrust, "orders.v1") == DestinationTrust("none")
    assert config.destination(DestinationContract, "orders.v1") == DestinationContract("learn")
    assert config.destination(DestinationSettings, "orders.v1") == DestinationSettings(
        foreign={"test": "allow", "staging": "flag", "*": "allow"}, ordered=True, expect_every_s=3600, same_key=True
    )
    assert config.destination(DestinationSettings, "payments").foreign == {"local": "reject", "*": "reject"}


GOOD = "good: {model: m, threshold: 2s, objective: 0.9}"
OBJECTIVES = f"objectives:\n  {GOOD}\n  "
MISTAKES = {
    "an unknown option": (
        "destinations:\n  orders:\n    expect_evry: 5m",
        ["line 3: destinations.orders.expect_evry is no option; remove it; did you mean expect_every?"],
    ),
    "an option beside the names": (
        "objectives: {threshold: 2s}",
        ["line 1: objectives.threshold is no mapping; indent its options below it"],
    ),
    "no mapping": (
        "destinations: [orders]\nobjectives: 5\nmirrors: orders",
        [
            'line 1: destinations is no mapping; name each destination below it, or "*" for all',
            "line 2: objectives is no mapping; name each objective below it",
            "line 3: mirrors is no mapping; write `copy: original` lines below it",
        ],
    ),
    "a policy for all in place of the origins": (
        "destinations: {orders: {foreign: reject}}",
        ['line 1: destinations.orders.foreign is no mapping; name each origin below it, or "*" for any other'],
    ),
    "a misspelt policy": (
        'destinations:\n  "*":\n    foreign:\n      local: rejct\n      "*": flag',
        ["line 4: destinations.*.foreign.local is 'rejct'; give one of allow, flag, reject; did you mean reject?"],
    ),
    "a misspelt origin": (
        "destinations: {orders: {foreign: {prodution: reject}}}",
        ["line 1: destinations.orders.foreign.prodution is no environment that is known; did you mean 'production'?"],
    ),
    "choices": (
        "destinations:\n  orders:\n    trust: same_environment\n    contract: files\n    ordered: 1",
        [
            (
                "line 3: destinations.orders.trust is 'same_environment'; "
                "give one of all, same-environment, none; did you mean same-environment?"
            ),
            "line 4: destinations.orders.contract is 'files'; give one of learn, file, ignore; did you mean file?",
            "line 5: destinations.orders.ordered is 1; give true or false",
        ],
    ),
    "a copy of itself": (
        "mirrors: {orders: orders}",
        ["line 1: mirrors.orders is its own copy; name the destination that is copied"],
    ),
    "no threshold": (
        OBJECTIVES + "bad: {model: m, objective: 0.9}",
        ["line 3: objectives.bad.threshold is missing; give a duration such as 500ms, 15s, 15m, 2h or 28d"],
    ),
    "nothing at all": (
        OBJECTIVES + "bad:",
        [
            "line 3: objectives.bad has no destination and no model; name the one that is meant",
            "line 3: objectives.bad.threshold is missing; give a duration such as 500ms, 15s, 15m, 2h or 28d",
            "line 3: objectives.bad.objective is missing; give a number above 0 and below 1, such as 0.99",
        ],
    ),
    "a destination and a model": (
        OBJECTIVES + "bad:\n    destination: orders\n    model: m\n    threshold: 2s\n    objective: 0.9",
        ["line 5: objectives.bad.model is there beside destination; keep the one that is meant"],
    ),
    "a bad threshold": (
        OBJECTIVES + "bad: {model: m, threshold: 2, objective: 99}",
        [
            "line 3: objectives.bad.threshold is 2; give a duration such as 500ms, 15s, 15m, 2h or 28d",
            "line 3: objectives.bad.objective is 99; give a number above 0 and below 1, such as 0.99",
        ],
    ),
    "a model that is none": (
        OBJECTIVES + "bad: {model: [m], threshold: 2s, objective: 0.9}",
        ["line 3: objectives.bad.model is ['m']; give a text"],
    ),
    "environment in environments": (
        f"objectives: {{{GOOD}}}\nenvironments:\n  staging:\n    health: {{on_reject: raise}}\n    environment: staging",
        ["line 5: environment cannot differ by environment; say it at the top of the file"],
    ),
    "another environment's values": (
        (
            f"{OBJECTIVES}\nenvironments:\n  staging:\n    objectives:\n      good:\n        threshold: soon\n      new:\n"
            "        model: m\n        threshold: 1s\n    destinations: {orders: {trust: some}}\n    health:\n"
            "      lost_after: 5"
        ),
        [
            "line 14: environments.staging.health.lost_after is 5; give a duration such as 500ms, 15s, 15m, 2h or 28d",
            (
                "line 12: environments.staging.destinations.orders.trust is 'some'; "
                "give one of all, same-environment, none"
            ),
            (
                "line 8: environments.staging.objectives.good.threshold is 'soon'; "
                "give a duration such as 500ms, 15s, 15m, 2h or 28d"
            ),
            (
                "line 9: environments.staging.objectives.new.objective is missing; "
                "give a number above 0 and below 1, such as 0.99"
            ),
        ],
    ),
    "single values": (
        (
            "health:\n  state_file: of\n  on_reject: rais\nforeign_sampling: {max_traces_per_second: -1}\n"
            "contracts: {learn_messages: 0, directory: [a]}\nhealth_: 1"
        ),
        [
            "line 6: health_ is no option; remove it; did you mean health?",
            "line 4: foreign_sampling.max_traces_per_second is -1; give a number of traces, such as 1, or unlimited",
            "line 5: contracts.directory is ['a']; give a text",
            "line 5: contracts.learn_messages is 0; give a whole number above 0",
            "line 2: health.state_file is 'of'; give auto, off or a path such as ./health.json; did you mean off?",
            "line 3: health.on_reject is 'rais'; give one of flag, raise; did you mean raise?",
        ],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_each_mistake_is_named_with_line_and_remedy(configured, case):
    """And everything else stays in force."""
    text, expected = MISTAKES[case]
    config = configured(text)

    assert problems(config) == expected
    health = config.of(HealthSettings)
    assert [objective.name for objective in health.objectives] == (["good"] if GOOD in text else [])
    assert health.on_reject == "flag"


def test_a_mistake_in_this_environment_is_said_once(configured):
    """By the option's own path; an optional value that is bad has its default."""
    config = configured(f"{OBJECTIVES}\nenvironments:\n  staging: {{objectives: {{good: {{age: dta}}}}}}", "staging")

    assert problems(config) == [
        "line 5: objectives.good.age is 'dta'; give one of delivery, data, event; did you mean data?"
    ]
    assert config.of(HealthSettings).objectives == (Objective("good", threshold_s=2, objective=0.9, model="m"),)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("auto", "auto"),
        ("off", "off"),
        ("./here.json", "here.json"),
        ("deep/state", "deep/state"),
        ("/run/x", "/run/x"),
    ],
)
def test_where_the_state_file_is(configured, tmp_path, written, expected):
    """`off` is no boolean here; paths begin at the file's folder."""
    found = configured(f"health: {{state_file: {written}}}").of(VerdictSettings).state_file

    assert found == (expected if expected in ("auto", "off") else tmp_path / expected)


WORDS = st.sampled_from(
    [
        "orders",
        "*",
        "trust",
        "foreign",
        "local",
        "threshold",
        "objective",
        "model",
        "destination",
        "age",
        "2s",
        "0.5",
        "all",
    ]
)
SCALARS = st.one_of(WORDS, st.integers(-1, 2), st.floats(), st.booleans(), st.none())
TREES = st.recursive(
    SCALARS, lambda below: st.one_of(st.lists(below, max_size=2), st.dictionaries(WORDS, below, max_size=4))
)
GROUPS = st.dictionaries(
    st.sampled_from(["destinations", "objectives", "mirrors", "health", "contracts", "foreign_sampling"]),
    TREES,
    max_size=4,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(GROUPS, st.dictionaries(st.sampled_from(["local", "staging"]), GROUPS))
def test_loading_never_raises(configured, top, overrides):
    """Whatever stands where; what comes out can be used."""
    import json

    config = configured(json.dumps({**top, "environments": overrides}), "staging")

    assert config.destination(DestinationSettings, "orders").foreign["*"] in ("allow", "flag", "reject")
    assert all(objective.threshold_s > 0 for objective in config.of(HealthSettings).objectives)

"""Every limit of the package has a test just below, at, and just above it, or stands here with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import otel_pipeline

PACKAGE = Path(otel_pipeline.__file__).parent
PARTS = ("engine", "contracts", "detectors", "verdict", "export", "config")

FORMAT = "a number of a format or of another's interface, no limit"
COSTS = "changes what something costs, in time or memory, not what comes of it"
WAITS = "how long something is waited for: a test of it would be a test of the machine's clock"
LIGHTS = "a constant of the lights: tests/verdict tries them with the rules that they belong to"
ELSEWHERE = {
    "engine.guard.OFF_AFTER": "tests/engine/test_guard.py tries it",
    "engine.guard.OFF_WITHIN_S": "tests/engine/test_guard.py tries it",
    "engine.driven._PATIENCE_S": WAITS,
    "detectors.decisions.MAX_COUNTED": COSTS,
    "engine.inference.MAX_PREPARED": COSTS,
    "engine.model_files._BLOCK_BYTES": COSTS,
    "engine.model_files._DIGITS": FORMAT,
    "engine.model_files._OLDEST_S": "tests/engine/test_model_files.py tries it and a second more",
    "engine.model_files._PARENTS": "tests/engine/test_model_files.py: of paths that are nested so deep",
    "engine.model_methods._SAMPLED": FORMAT,
    "engine.exemplars.EXEMPLARS_APART_NS": "tests/adapters/test_kafka_python_ages.py tries it",
    "engine.origin.DOUBTED": FORMAT,
    "engine.pipeline_header.DOUBTED": FORMAT,
    "engine.pipeline_header.EXTENDED": FORMAT,
    "engine.pipeline_header.FAN_IN": FORMAT,
    "engine.pipeline_header.OTHER_ENVIRONMENT": FORMAT,
    "engine.pipeline_header.PER_PARTITION": FORMAT,
    "engine.pipeline_header.VERSION": FORMAT,
    "engine.pipeline_header._BYTES": FORMAT,
    "engine.pipeline_header._CHARACTERS": FORMAT,
    "engine.pipeline_header._TYPE_ENVIRONMENT": FORMAT,
    "engine.carrier.NO_PARTITION": FORMAT,
    "engine.carrier._WAIT_S": WAITS,
    "engine.immutable_types._BUILT_IN": FORMAT,
    "engine.immutable_types._IMMUTABLE": FORMAT,
    "engine.origin_state._VERSION": FORMAT,
    "engine.send._PER_PARTITION": FORMAT,
    "engine.client_objects.MAX_CLIENTS": "tests/engine/test_client_objects.py tries it, made smaller",
    "engine.thread_sequence._LAST": FORMAT,
    "engine.trace_context._LENGTH": FORMAT,
    "engine.trust._NS": FORMAT,
    "engine.processor._SAMPLED": FORMAT,
    "engine.trust._SAMPLED": FORMAT,
    "contracts.contract.SCHEMA": FORMAT,
    "contracts.sampling.MOST_EVERY": "test_contract_limits.py: what is reached, not what is passed",
    "contracts.sampling.WATCHFUL_EVERY": "test_contract_limits.py: what is reached, not what is passed",
    "config.environment.OTHER_CODE": FORMAT,
    "detectors.destination_numbers.WINDOW": "tests/detectors/test_destination_numbers.py tries it",
    "detectors.clock_bound.DRIFT": "a property of quartz; tests/detectors/test_clock_bound.py simulates it",
    "detectors.clock_bound.SLOT_S": "tests/detectors/test_clock_bound.py: the bound holds whatever it is",
    "detectors.clock_bound.STEP_S": "tests/detectors/test_clock_bound.py: the bound holds whatever it is",
    "detectors.clock_bound.WINDOW_S": "tests/detectors/test_clock_bound.py: the bound holds whatever it is",
    "detectors.flows.MAX_FLOWS": "tests/adapters/test_kafka_python_flows.py makes 3,000 flows",
    "detectors.flows.MAX_GROUPS": "tests/adapters/test_kafka_python_flows.py makes 3,000 flows",
    "detectors.kernel_clock._LONG_BYTES": FORMAT,
    "detectors.kernel_clock._UNSYNCHRONISED": FORMAT,
    "detectors.producer_numbers._WAIT_S": WAITS,
    "detectors.offsets.MAX_PARTITIONS": "tests/adapters/test_kafka_python_flows.py makes 3,000 flows",
    "detectors.partition._ALL_BUT_HOPS": FORMAT,
    "detectors.times.AHEAD_MS": "tests/detectors/test_times.py tries it and 1 ms more",
    "detectors.times.MAX_PENDING": "tests/detectors/test_times.py puts three times as many in hand",
    "detectors.measures.MAX_VALUES": "tests/detectors/test_seam.py tries it",
    "detectors.shares._CERTAIN": LIGHTS,
    "detectors.watched_flow.MAX_NUMBERS": COSTS,
    "detectors.watched_flow._FOLD_AT": COSTS,
    "detectors.flow_pace._CLEAR_AT": COSTS,
    "engine.settings._MAX_REMEMBERED": COSTS,
    "export.attempt._MAX_LINES": COSTS,
    "export.causes._MAX_CHAIN": "of exceptions within one another; those of requests and urllib3 are five",
    "export.causes._PROBE_S": WAITS,
    "export.border.HANGS_S": WAITS,
    "export.border._REDIRECTS": FORMAT,
    "export.compiled_spans._ALL": FORMAT,
    "export.compiled_spans._ENOUGH_ATTRIBUTES": COSTS,
    "export.compiled_spans._LOW_64_BITS": FORMAT,
    "export.compiled_spans._RANDOM": FORMAT,
    "export.compiled_spans._SAMPLED": FORMAT,
    "export.destination._PROBE_ELSEWHERE_S": WAITS,
    "export.destination._PROBE_S": WAITS,
    "export.early.AT_MOST_EVERY_S": "tests/export/test_early.py tries it",
    "export.early.TIMEOUT_S": WAITS,
    "export.grpc_calls.QUIET_S": WAITS,
    "export.log_values._SIGNED_64_BITS": FORMAT,
    "export.log_records._DEPTH": "of frames of logging's own, which has fewer",
    "export.otlp.answer._INT64": FORMAT,
    "export.otlp.answer._MAX_VARINT_BYTES": FORMAT,
    "export.otlp.connection.MAX_ANSWER_S": WAITS,
    "export.otlp.exporters.MAX_REQUEST_BYTES": "tests/export/otlp/test_exporters.py tries it, made smaller",
    "export.otlp.http.FIRST_WAIT_S": WAITS,
    "export.otlp.http.JITTER": WAITS,
    "export.otlp.http.MAX_WAIT_S": WAITS,
    "export.otlp.http._GZIP": FORMAT,
    "export.otlp.http._LEVEL": COSTS,
    "export.otlp.recorded._LOW_64_BITS": FORMAT,
    "export.otlp.spans._LOW_64_BITS": FORMAT,
    "export.otlp.variables.TIMEOUT_S": WAITS,
    "export.otlp.wire._DOUBLE_BYTES": FORMAT,
    "export.otlp.wire._FEW": COSTS,
    "export.otlp.wire._INT64": FORMAT,
    "export.otlp.wire._LENGTH_DELIMITED": FORMAT,
    "export.otlp.wire._ONE_BYTE": FORMAT,
    "export.otlp.wire._TWO_BYTES": FORMAT,
    "export.otlp.wire._UINT64": FORMAT,
    "export.otlp_lines.MAX_AGE_S": "tests/export/test_otlp_lines.py: of files' own bounds, with smaller ones",
    "export.otlp_lines.MAX_FILE_BYTES": "tests/export/test_otlp_lines.py: of files' own bounds, with smaller ones",
    "export.otlp_lines.MAX_FILES": "tests/export/test_otlp_lines.py: what is left of twenty lines",
    "export.otlp_lines.MAX_FOLDER_BYTES": "tests/export/test_otlp_lines.py: of files' own bounds, with smaller ones",
    "export.processors.FLUSH_MS": WAITS,
    "export.providers.DRAIN_S": WAITS,
    "export.providers.SPOOL_LOG_QUEUE": "of the SDK's queue: tests/export/test_border.py tries that of a smaller one",
    "export.providers.SPOOL_QUEUE": "of the SDK's queue: tests/export/test_border.py tries that of a smaller one",
    "export.providers.SPOOL_DELAY_MS": "tests/processes/test_spool.py kills at random moments",
    "export.spool.adoption._READ_BYTES": COSTS,
    "export.spool.answers._REDIRECTS": FORMAT,
    "export.spool.answers._SERVERS_FAULT": FORMAT,
    "export.spool.answers._TOO_LARGE": FORMAT,
    "export.spool.folder._TRIES": "of names that another process has locked first, which is one in millions",
    "export.spool.frames.MAX_PAYLOAD_BYTES": "tests/export/test_spool_segments.py tries it and a byte more",
    "export.spool.frames.VERSION": FORMAT,
    "export.spool.frames._COMPRESSED": FORMAT,
    "export.spool.segments._READ_BYTES": COSTS,
    "export.spool.asides.ENOUGH_TRIES": "tests/export/test_set_aside.py: the one before and it, with 31, 32 and 33 batches",
    "export.spool.asides.MAX_ASIDE": "tests/export/test_set_aside.py: 31, 32 and 33 batches",
    "export.spool.border.GATHER_S": WAITS,
    "export.spool.border.NEAR_GATHER_S": WAITS,
    "export.spool.outlet.AT_ONCE_ITEMS": COSTS,
    "export.spool.outlet.FIRST_BACKOFF_S": "tests/export/test_spool_sender.py: each wait is told from the next",
    "export.spool.lanes.FIRST_ASIDE_S": "tests/export/test_set_aside.py: each wait is told from the next",
    "export.spool.outlet.JOIN_BYTES": COSTS,
    "export.spool.lanes.MAX_ASIDE_S": "tests/export/test_set_aside.py: each wait is told from the next",
    "export.spool.sender.LOOK_S": WAITS,
    "export.spool.outlet.MAX_BACKOFF_S": "tests/export/test_spool_sender.py: each wait is told from the next",
    "export.spool.outlet.OTHERS_APART_S": WAITS,
    "export.spool.sender._AFTER_FAILURE_S": WAITS,
    "export.spool.spool.COMPRESS_BYTES": COSTS,
    "export.spool.spool.DISK_AGAIN_S": "tests/export/test_spool.py: just before it and at it",
    "export.spool.spool.PARTS": COSTS,
    "export.spool.spool.REUSE_BYTES": COSTS,
    "export.spool.spool.SEGMENT_BYTES": COSTS,
    "export.processors.FEW": COSTS,
    "export.processors.NEARLY_FULL": COSTS,
    "export.otlp.logs.MAX_SEVERITIES": COSTS,
    "engine.late_loading.MAX_WAIT_S": WAITS,
    "detectors.instruments.ROUND_S": COSTS,
    "export.processors._SAMPLED": FORMAT,
    "export.recorded_span._SAMPLED": FORMAT,
    "export.sampling._TRACE_STATE_AT": FORMAT,
    "export.thresholds._DIGITS": FORMAT,
    "export.thresholds._NEVER": FORMAT,
    "export.thresholds._RANDOMNESS": FORMAT,
    "export.thresholds._SAMPLED": FORMAT,
    "export.ending.SENDS_SHARE": WAITS,
    "export.ending._LAST": FORMAT,
    "export.ending._LOOK_S": WAITS,
    "export.sigterm.HAND_OVER_S": WAITS,
    "export.providers.EXIT_NEAR_S": WAITS,
    "export.providers.EXIT_S": WAITS,
    "export.providers.LINES_DELAY_MS": WAITS,
    "detectors.consumer_pace.ASKS_S": LIGHTS,
    "detectors.consumer_pace.BUSY": LIGHTS,
    "detectors.consumer_pace.FALLING_S": LIGHTS,
    "detectors.consumer_pace.GOING_ROUND": LIGHTS,
    "detectors.consumer_pace.SET_BACK_S": LIGHTS,
    "detectors.consumer_pace.STARVED_S": LIGHTS,
    "detectors.consumer_pace.UNKNOWN_AFTER_S": LIGHTS,
    "detectors.consumer_pace._QUEUE_LOOKS": COSTS,
    "detectors.partition._AGAIN": LIGHTS,
    "detectors.partition._BEGUN": LIGHTS,
    "detectors.sender_delay.MAX_SENDERS": COSTS,
    "detectors.wall_clock._BEFORE": COSTS,
    "detectors.watched_flow._SETTLED_S": LIGHTS,
    "detectors.partition._SOUGHT": COSTS,
    "engine.clients.MAX_POLL_INTERVAL_S": "Kafka's own default",
    "verdict.case.AGED_S": LIGHTS,
    "verdict.case.JUDGED": LIGHTS,
    "verdict.case.QUIET_S": LIGHTS,
    "verdict.contract._NAMED": LIGHTS,
    "verdict.contract._NEW_S": LIGHTS,
    "verdict.contract._NOW_S": LIGHTS,
    "verdict.contract._SAMPLED": LIGHTS,
    "verdict.contract._SURE": LIGHTS,
    "verdict.environment._LEAST": LIGHTS,
    "verdict.environment._UNLABELLED": LIGHTS,
    "verdict.fresh._FAST_BURN": LIGHTS,
    "verdict.order.DISORDER": LIGHTS,
    "verdict.order.LEAST": LIGHTS,
    "verdict.order.REDELIVERED_SHARE": LIGHTS,
    "verdict.pace._LONGEST": LIGHTS,
    "verdict.pace._PATIENCE": LIGHTS,
    "export.repair._INT64": FORMAT,
    "verdict.history.EVENT_AMBER_S": LIGHTS,
    "verdict.history.EVENT_RED_S": LIGHTS,
    "verdict.monitoring.MAX_WAIT_S": WAITS,
    "verdict.report.SCHEMA": FORMAT,
    "verdict.idle.IDLE_EVERY_S": "tests/verdict/test_idle.py counts the seconds",
    "verdict.document.UNCHANGED_FOR_S": "tests/verdict/test_idle.py counts the seconds",
    "verdict.require_fresh._MAX_NAMES": "of names in metrics; those of models and destinations are tried",
    "verdict.state_reader.SILENT_AFTER_S": LIGHTS,
    "verdict.state_file._WAIT_S": WAITS,
    "verdict.verdict.BETTER_AFTER_S": LIGHTS,
    "verdict.verdict.WORSE_AFTER": LIGHTS,
}


def limits():
    """Names of modules' constants that are numbers."""
    found = set()
    for part in PARTS:
        for path in sorted(PACKAGE.glob(f"{part}/**/*.py")):
            module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.Assign) and _is_number(node.value):
                    (target,) = node.targets
                    if isinstance(target, ast.Name) and target.id.isupper():
                        found.add(f"{module}.{target.id}")
    return found


def _is_number(node):
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)


def tried():
    """Names given to `below_at_above`."""
    return {
        node.args[0].value
        for path in Path(__file__).parent.glob("**/test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "below_at_above"
    }


def test_every_limit_is_tried():
    """Who adds one adds its test."""
    assert sorted(limits() - tried() - set(ELSEWHERE)) == []


def test_what_is_listed_is_there():
    """A limit that is gone, or that has a test by now, leaves the list."""
    assert sorted(set(ELSEWHERE) - (limits() - tried())) == []


def test_what_is_tried_is_there():
    """A test's name of a constant is one; a limit without a name of its own is said in words."""
    named = {name for name in tried() if " " not in name}

    assert sorted(named - limits()) == [
        "engine.messages.EngineSettings." + name for name in ("max_hops", "max_links", "parent_max_age_ms")
    ]

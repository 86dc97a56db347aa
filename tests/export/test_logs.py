from __future__ import annotations

import io
import logging
import logging.config
import logging.handlers
import pickle
import queue
import sys
import threading

import loguru
import opentelemetry.sdk._logs.export as sdk_export
import pytest
from loguru import logger as loguru_logger
from opentelemetry import context, trace
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource

from otel_pipeline.engine.guard import OFF_AFTER, Guard
from otel_pipeline.engine.patching import Patches
from otel_pipeline.export import log_records, loguru_logs, stdlib_logs
from otel_pipeline.export import logs as export_logs

InMemory = getattr(sdk_export, "InMemoryLogRecordExporter", None) or sdk_export.InMemoryLogExporter
ROOT = logging.getLogger()
TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
IN_SPAN = {
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "trace_flags": "01",
    "deployment_environment_name": "staging",
}
OUTSIDE = {"trace_id": "", "span_id": "", "trace_flags": "", "deployment_environment_name": "staging"}


def in_span():
    span_context = trace.SpanContext(TRACE_ID, SPAN_ID, False, trace.TraceFlags(1))
    return trace.use_span(trace.NonRecordingSpan(span_context))


class Listening(logging.Handler):
    def __init__(self):
        super().__init__(0)
        self.records = []

    def emit(self, record):
        self.records.append(record)


class Intercept(logging.Handler):
    """As loguru's documentation shows it: the standard library's records into loguru."""

    def emit(self, record):
        frame, depth = sys._getframe(6), 6
        while frame and frame.f_code.co_filename == logging.__file__:
            frame, depth = frame.f_back, depth + 1
        loguru_logger.opt(depth=depth, exception=record.exc_info).log(record.levelname, record.getMessage())


class Propagate(logging.Handler):
    """As loguru's documentation shows it: loguru's records into the standard library."""

    def emit(self, record):
        logging.getLogger(record.name).handle(record)


class Connected:
    """The exporter's memory, and what was said."""

    def __init__(self):
        self.exporter, self.guard = InMemory(), Guard()
        self.provider = LoggerProvider(Resource({"service.name": "s"}), shutdown_on_exit=False)
        self.provider.add_log_record_processor(sdk_export.SimpleLogRecordProcessor(self.exporter))
        self.connections = []

    def connect(self, provider="own", level="INFO", environment="staging"):
        provider = self.provider if provider == "own" else provider
        self.patches = Patches(self.guard)
        self.connections.append(
            export_logs.connect(
                provider, environment, level=level, guard=self.guard, when_imported=self.patches.when_imported
            )
        )
        return self.connections[-1]

    @property
    def problems(self):
        return list(self.guard.problems)

    @property
    def exported(self):
        return [data.log_record for data in self.exporter.get_finished_logs()]

    @property
    def bodies(self):
        return [record.body for record in self.exported]


@pytest.fixture
def logs():
    """Both libraries as an application finds them, restored afterwards."""
    root, core = logging.getLogger(), loguru_logger._core
    before = (root.level, root.handlers[:], core.patcher, core.extra.copy(), logging.getLogRecordFactory())
    methods = [logging.Logger.makeRecord, logging.Logger.callHandlers, type(loguru_logger).configure]
    loguru_logger.remove()
    root.setLevel(logging.INFO)
    connected = Connected()
    yield connected
    for connection in reversed(connected.connections):
        connection.disconnect()
    assert methods == [logging.Logger.makeRecord, logging.Logger.callHandlers, type(loguru_logger).configure]
    loguru_logger.remove()
    root.level, root.handlers[:], core.patcher = before[:3]
    core.extra.clear()
    core.extra.update(before[3])
    logging.setLogRecordFactory(before[4])


@pytest.fixture
def listening(logs):
    handler = Listening()
    ROOT.addHandler(handler)
    return handler.records


def fields(held):
    return {name: held[name] for name in IN_SPAN if name in held}


# The fields, standard library


def test_each_stdlib_record_carries_the_trace(logs, listening):
    """And outside a span empty values, so that a format that names them does not fail."""
    logs.connect(None)
    with in_span():
        ROOT.info("in")
    ROOT.info("out")

    assert [fields(vars(record)) for record in listening] == [IN_SPAN, OUTSIDE]


def test_a_format_may_name_the_fields(logs):
    """The application's formatter, inside a span and outside."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(trace_id)s/%(span_id)s/%(deployment_environment_name)s %(message)s"))
    ROOT.addHandler(handler)
    logs.connect(None)
    with in_span():
        ROOT.info("in")
    ROOT.info("out")

    assert out.getvalue() == "0af7651916cd43dd8448eb211c80319c/b7ad6b7169203331/staging in\n//staging out\n"


def test_what_the_application_sets_itself_is_kept(logs, listening):
    """`extra={"trace_id": ...}` neither raises nor is overwritten; a record factory's values stay too."""
    factory = logging.getLogRecordFactory()

    def make(*args, **kwargs):
        record = factory(*args, **kwargs)
        record.span_id = "factory's"
        return record

    logging.setLogRecordFactory(make)
    logs.connect()
    with in_span():
        ROOT.info("mine", extra={"trace_id": "mine"})

    assert fields(vars(listening[0])) == {**IN_SPAN, "trace_id": "mine", "span_id": "factory's"}
    assert {**logs.exported[0].attributes}["trace_id"] == "mine"
    assert logs.exported[0].trace_id == TRACE_ID


def test_a_record_factory_set_later_keeps_the_fields(logs, listening):
    """Whoever replaces the factory without calling ours takes nothing away."""
    logs.connect(None)
    logging.setLogRecordFactory(logging.LogRecord)
    with in_span():
        ROOT.info("x")

    assert fields(vars(listening[0])) == IN_SPAN


def test_a_record_from_elsewhere_is_left_alone(logs):
    """A record that was received, not logged here, is not of this trace."""
    logs.connect(None)
    with in_span():
        record = logging.makeLogRecord({"msg": "received"})

    assert fields(vars(record)) == {}


# The fields, loguru


def lines(**options):
    seen = []
    loguru_logger.add(lambda message: seen.append(message.record), format="{message}", **options)
    return seen


def test_each_loguru_record_carries_the_trace(logs):
    """In its extra; without a span only the environment."""
    logs.connect(None)
    seen = lines()
    with in_span():
        loguru_logger.info("in")
    loguru_logger.info("out")

    assert [record["extra"] for record in seen] == [IN_SPAN, {"deployment_environment_name": "staging"}]


def test_loguru_s_own_ways_keep_the_fields(logs):
    """configure(), patch(), bind(), contextualize(), remove() and add() by the application, in any order."""
    loguru_logger.configure(patcher=lambda record: record["extra"].update(before=1))
    logs.connect()
    first = lines()
    with in_span():
        loguru_logger.info("before")
        loguru_logger.configure(patcher=lambda record: record["extra"].update(after=2), handlers=[])
        second = lines()
        loguru_logger.remove()
        third = lines()
        with loguru_logger.contextualize(request=5):
            loguru_logger.patch(lambda record: record["extra"].update(patched=3)).bind(bound=4).info("after")

    assert [record["extra"] for record in first] == [{**IN_SPAN, "before": 1}]
    assert second == []
    assert [record["extra"] for record in third] == [{**IN_SPAN, "after": 2, "patched": 3, "bound": 4, "request": 5}]
    assert logs.bodies == ["before", "after"]


def test_what_loguru_s_user_binds_is_kept(logs):
    """A bound value wins; a default from configure(extra=...), there for formats, gives way."""
    loguru_logger.configure(extra={"trace_id": "-", "span_id": "-"})
    logs.connect(None)
    seen = lines()
    loguru_logger.info("out")
    with in_span():
        loguru_logger.bind(trace_id="mine").info("in")

    assert [record["extra"] for record in seen] == [
        {"trace_id": "-", "span_id": "-", "deployment_environment_name": "staging"},
        {**IN_SPAN, "trace_id": "mine"},
    ]


def test_formats_of_the_application_stay(logs):
    """Its sinks print what they printed."""
    out = io.StringIO()
    loguru_logger.add(out, format="{level} {message}")
    logs.connect()
    with in_span():
        loguru_logger.warning("{} and {}", 1, 2)

    assert out.getvalue() == "WARNING 1 and 2\n"


# OTel logs


def test_a_stdlib_record_is_an_otel_log(logs):
    """Severity, body, scope, time, context, code and the application's own extra."""
    logs.connect()
    with in_span():
        logging.getLogger("app.part").warning("%s of %s", 1, 2, extra={"order": 7, "tags": ["a"], "odd": {1: 2}})
    (data,) = logs.exporter.get_finished_logs()
    record = data.log_record
    attributes = dict(record.attributes)

    assert data.instrumentation_scope.name == "app.part"
    assert (record.body, record.severity_text, record.severity_number.value) == ("1 of 2", "WARNING", 13)
    assert (record.trace_id, record.span_id, int(record.trace_flags)) == (TRACE_ID, SPAN_ID, 1)
    assert 0 <= record.observed_timestamp - record.timestamp < 60e9
    assert attributes.pop("code.line.number") > 0
    assert {**attributes, "tags": list(attributes["tags"])} == {
        "code.file.path": __file__,
        "code.function.name": "test_a_stdlib_record_is_an_otel_log",
        "order": 7,
        "tags": ["a"],
        "odd": "{1: 2}",
    }
    assert logs.problems == []


def test_a_loguru_record_is_an_otel_log(logs):
    """The same, from loguru, whose levels between the usual ones keep their names."""
    logs.connect()
    with in_span():
        loguru_logger.bind(order=7).success("{} of {}", 1, 2)
    (data,) = logs.exporter.get_finished_logs()
    record = data.log_record
    attributes = dict(record.attributes)

    assert data.instrumentation_scope.name == __name__
    assert (record.body, record.severity_text, record.severity_number.value) == ("1 of 2", "SUCCESS", 12)
    assert (record.trace_id, record.span_id, int(record.trace_flags)) == (TRACE_ID, SPAN_ID, 1)
    assert 0 <= record.observed_timestamp - record.timestamp < 60e9
    assert attributes.pop("code.line.number") > 0
    assert attributes == {
        "code.file.path": __file__,
        "code.function.name": "test_a_loguru_record_is_an_otel_log",
        "order": 7,
    }


@pytest.mark.parametrize("log", [logging.exception, loguru_logger.exception], ids=["logging", "loguru"])
def test_exceptions_are_attributes(logs, log):
    """Type, message and stack trace, as the semantic conventions name them."""
    logs.connect()
    try:
        raise queue.Empty("nothing there")  # noqa: TRY301
    except queue.Empty:
        log("failed")
    attributes = dict(logs.exported[0].attributes)

    assert (attributes["exception.type"], attributes["exception.message"]) == ("_queue.Empty", "nothing there")
    assert attributes["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert attributes["exception.stacktrace"].endswith("Empty: nothing there\n")


@pytest.mark.parametrize(("level", "bodies"), [("INFO", ["i", "w"]), (30, ["w"]), ("debug", ["d", "i", "w"])])
@pytest.mark.parametrize("log", [logging, loguru_logger], ids=["logging", "loguru"])
def test_the_level_is_an_option(logs, log, level, bodies):
    """Of what is exported; the application's own levels stay as they are."""
    ROOT.setLevel(logging.DEBUG)
    logs.connect(level=level)
    log.debug("d")
    log.info("i")
    log.warning("w")

    assert logs.bodies == bodies


def test_an_unknown_level_is_said(logs):
    """And INFO is used."""
    logs.connect(level="LOUD")
    ROOT.info("i")

    assert (logs.bodies, logs.problems) == (["i"], ["logs.level"])


@pytest.mark.parametrize("provider", [None, NoOpLoggerProvider()], ids=["none", "noop"])
def test_without_a_provider_only_the_fields(logs, listening, provider):
    """Nothing is translated for nobody; loguru has no sink of ours."""
    logs.connect(provider)
    with in_span():
        ROOT.info("x")

    assert fields(vars(listening[0])) == IN_SPAN
    assert loguru_logger._core.handlers == {}


# One message, one OTel log


def test_stdlib_bridged_into_loguru_is_one_log(logs):
    """The usual InterceptHandler: the standard library's own record is exported, with its own code location."""
    ROOT.addHandler(Intercept())
    logs.connect()
    seen = lines()
    logging.getLogger("lib").info("once")
    loguru_logger.info("direct")

    assert [record["message"] for record in seen] == ["once", "direct"]
    assert logs.bodies == ["once", "direct"]
    assert logs.exported[0].attributes["code.function.name"] == "test_stdlib_bridged_into_loguru_is_one_log"


@pytest.mark.parametrize("enqueue", [False, True])
@pytest.mark.parametrize("first", ["bridge", "export"])
def test_loguru_bridged_into_stdlib_is_one_log(logs, listening, enqueue, first):
    """The usual PropagateHandler, whichever sink comes first, and from loguru's own thread."""
    if first == "export":
        logs.connect()
    loguru_logger.add(Propagate(), format="{message}", enqueue=enqueue)
    if first == "bridge":
        logs.connect()
    loguru_logger.info("once")
    ROOT.info("direct")
    loguru_logger.complete()

    assert sorted(record.getMessage() for record in listening) == ["direct", "once"]
    assert logs.bodies == ["once", "direct"]


def test_stdlib_bridged_through_a_queue_is_one_log(logs):
    """QueueHandler in front, InterceptHandler behind its listener's thread."""
    waiting = queue.SimpleQueue()
    ROOT.addHandler(logging.handlers.QueueHandler(waiting))
    logs.connect()
    seen = lines()
    listener = logging.handlers.QueueListener(waiting, Intercept())
    listener.start()
    with in_span():
        ROOT.info("once")
    listener.stop()

    assert [record["message"] for record in seen] == ["once"]
    assert [(record.body, record.trace_id) for record in logs.exported] == [("once", TRACE_ID)]


class LoggingHandler(logging.Handler):
    """Stands for OpenTelemetry's own."""

    __module__ = "opentelemetry.instrumentation.logging.handler"

    def emit(self, record):
        pass


def test_opentelemetry_s_own_handler_is_enough(logs):
    """Where `opentelemetry-instrument` has put its handler on the root logger, stdlib records are not doubled."""
    ROOT.addHandler(LoggingHandler())
    logs.connect()
    ROOT.info("theirs")
    loguru_logger.info("ours")

    assert logs.bodies == ["ours"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_sdk_s_handler_is_recognised(logs):
    """By its class, of every SDK that has one."""
    from opentelemetry.sdk._logs import LoggingHandler as Sdk

    assert stdlib_logs._is_opentelemetry(Sdk)
    assert not stdlib_logs._is_opentelemetry(logging.StreamHandler)


# No loops


def test_the_exporters_own_logs_are_not_exported(logs):
    """Neither by name, nor what is logged while exporting in this thread or in the exporter's."""
    logs.connect()
    logging.getLogger("opentelemetry.exporter").error("theirs")
    logging.getLogger("otel_pipeline").error("ours")
    token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
    logging.getLogger("urllib3").error("retry")
    loguru_logger.error("retry")
    context.detach(token)
    logging.getLogger("urllib3").error("the application's")

    assert logs.bodies == ["the application's"]


def test_an_exporter_that_logs_does_not_loop(logs, listening):
    """What it logs reaches the application's handlers, once."""
    export = logs.exporter.export

    def logging_export(batch):
        ROOT.error("exporting")
        loguru_logger.error("exporting")
        return export(batch)

    logs.exporter.export = logging_export
    logs.connect()
    ROOT.info("a")
    loguru_logger.info("b")

    assert logs.bodies == ["a", "b"]
    assert [record.getMessage() for record in listening] == ["exporting", "a", "exporting"]


def test_a_failing_provider_is_said_and_harmless(logs, listening):
    """The application's own handlers get the record all the same."""

    class Broken(LoggerProvider):
        def get_logger(self, name, *args, **kwargs):
            if name == export_logs.__name__:
                return super().get_logger(name)
            raise RuntimeError("broken")

    logs.connect(Broken(Resource({}), shutdown_on_exit=False))
    ROOT.info("a")
    loguru_logger.info("b")

    assert [record.getMessage() for record in listening if record.name == "root"] == ["a"]
    assert logs.guard.errors == {"logs": 2}


@pytest.mark.parametrize("log", [logging, loguru_logger], ids=["logging", "loguru"])
def test_what_fails_of_ours_is_no_concern_of_who_logs(logs, listening, monkeypatch, log):
    """The record is made and handled as ever, and the failure is counted and said once; then nothing is tried any more."""
    seen = lines()
    logs.connect()

    def fail(*_arguments):
        raise ValueError("secret")

    for module in (stdlib_logs, loguru_logs):
        for name in ("current_fields", "unwanted", "called_by"):
            monkeypatch.setattr(module, name, fail)
    for _ in range(OFF_AFTER):
        log.info("here")
    told = [record.getMessage() for record in listening if record.name == "otel_pipeline"]

    assert len(seen if log is loguru_logger else [each for each in listening if each.name == "root"]) == OFF_AFTER
    assert OFF_AFTER <= logs.guard.errors["logs"] <= OFF_AFTER + 2
    assert [text.split("\n")[0] for text in told] == [
        "otel_pipeline: logs failed with ValueError; the application is not affected",
        (
            "otel_pipeline: logs failed 100 times within a minute and is switched off until the next start; "
            "the first traceback is in the log"
        ),
    ]


def test_a_message_that_does_not_format_is_not_lost(logs):
    """The application's handlers report it as ever."""
    handler = Listening()
    ROOT.handlers[:] = [handler]
    logs.connect()
    ROOT.info("%d", "no number")

    assert (len(handler.records), logs.bodies, logs.problems) == (1, ["%d"], [])


# The application's own logging stays as it is


def test_basic_config_still_works(logs):
    """With a handler of ours on the root logger it would do nothing."""
    root = logging.getLogger()
    root.handlers.clear()
    logs.connect()
    assert root.handlers == []
    out = io.StringIO()
    logging.basicConfig(stream=out, format="%(message)s", level=logging.INFO)
    ROOT.info("printed")

    assert (out.getvalue(), logs.bodies) == ("printed\n", ["printed"])


def test_dict_config_does_not_stop_the_export(logs):
    """It replaces all handlers."""
    logs.connect()
    logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}, "disable_existing_loggers": False})
    ROOT.info("still")

    assert logs.bodies == ["still"]


def test_the_last_resort_still_prints(logs, capsys):
    """A program without logging configuration sees its warnings on stderr, as ever."""
    ROOT.handlers.clear()
    logs.connect()
    logging.getLogger("quiet.program").warning("seen")

    assert (capsys.readouterr().err, logs.bodies) == ("seen\n", ["seen"])


def test_an_emission_that_was_interrupted_is_over(logs, monkeypatch):
    """Ctrl-C or a time limit at its very last line: what this thread logs later is exported."""
    logs.connect()
    ROOT.warning("before")
    ended = (each for each in ())  # A frame that is not on the stack.
    monkeypatch.setattr(log_records._thread, "emitting", ended.gi_frame)
    ROOT.warning("after")

    assert (logs.bodies, log_records._thread.emitting) == (["before", "after"], None)


def test_silenced_loggers_stay_silent(logs):
    """Nothing is exported that no handler would get: disabled, filtered, or not propagated and unheard."""
    logs.connect()
    silent, disabled, filtered = (logging.getLogger(f"app.{name}") for name in ("silent", "disabled", "filtered"))
    own = logging.getLogger("app.own")
    silent.propagate = own.propagate = False
    silent.addHandler(logging.NullHandler())
    own.addHandler(Listening())
    disabled.disabled = True
    filtered.addFilter(lambda record: False)
    try:
        for log in (silent, disabled, filtered, own):
            log.error(log.name)
    finally:
        for log in (silent, disabled, filtered, own):
            log.propagate, log.disabled, log.filters[:], log.handlers[:] = True, False, [], []

    assert logs.bodies == ["app.own"]


def test_a_module_that_loguru_disabled_stays_silent(logs):
    """`logger.disable(...)` is asked before anything of ours."""
    logs.connect()
    loguru_logger.disable(__name__)
    loguru_logger.info("no")
    loguru_logger.enable(__name__)

    assert logs.bodies == []


def test_loguru_s_remove_still_refuses_unknown_ids(logs):
    """And takes away the application's own sinks."""
    logs.connect()
    seen = []
    number = loguru_logger.add(seen.append, format="{message}")
    loguru_logger.remove(number)
    loguru_logger.info("a")
    with pytest.raises(ValueError, match="There is no existing handler"):
        loguru_logger.remove(number)

    assert (seen, logs.bodies) == ([], ["a"])


def test_threads_each_carry_their_own_trace(logs):
    """Context is the logging thread's."""
    logs.connect()

    def work():
        with in_span():
            ROOT.info("in")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    ROOT.info("out")

    assert [(record.body, record.trace_id or 0) for record in logs.exported] == [("in", TRACE_ID), ("out", 0)]


# Leaving


def test_disconnecting_restores_both_libraries(logs, listening):
    """Methods, patcher and sinks; the application's own patcher and sinks stay."""
    loguru_logger.configure(patcher=lambda record: record["extra"].update(own=1))
    patcher, kind = loguru_logger._core.patcher, type(loguru_logger)
    names = ((logging.Logger, "makeRecord"), (logging.Logger, "callHandlers"), (kind, "configure"), (kind, "remove"))
    before = [vars(owner)[name] for owner, name in names]
    seen = lines()
    connection = logs.connect()
    connection.disconnect()
    connection.disconnect()
    with in_span():
        ROOT.info("a")
        loguru_logger.info("b")

    assert [vars(owner)[name] for owner, name in names] == before
    assert loguru_logger._core.patcher is patcher
    assert (fields(vars(listening[0])), seen[0]["extra"], logs.bodies) == ({}, {"own": 1}, [])
    assert len(loguru_logger._core.handlers) == 1


def test_a_method_that_somebody_wrapped_meanwhile_is_left(logs, listening, monkeypatch):
    """Ours then only passes on."""
    connection = logs.connect()
    ours = logging.Logger.makeRecord
    original = ours.__wrapped__

    def theirs(*args, **kwargs):
        return ours(*args, **kwargs)

    logging.Logger.makeRecord = theirs
    connection.disconnect()
    ROOT.info("a")
    restored = logging.Logger.makeRecord
    logging.Logger.makeRecord = original

    assert (restored, fields(vars(listening[0])), logs.bodies) == (theirs, {}, [])


def test_loguru_is_not_imported_for_its_own_sake(logs):
    """It is connected when the application imports it, and not after the end."""
    waiting = []
    connections = [
        export_logs.connect(
            logs.provider, None, level="INFO", guard=logs.guard, when_imported=lambda _, act: waiting.append(act)
        )
        for _ in range(2)
    ]
    logs.connections += connections
    connections[1].disconnect()
    assert loguru_logs._connected == []

    for act in waiting:
        act(loguru)
    loguru_logger.info("a")

    assert (logs.bodies, len(loguru_logs._connected)) == (["a"], 1)


def test_connecting_again_works(logs):
    """Nothing is exported twice."""
    logs.connect().disconnect()
    logs.connect()
    ROOT.info("a")
    loguru_logger.info("b")

    assert logs.bodies == ["a", "b"]


def test_a_logger_can_still_be_handed_to_a_spawned_process(logs):
    """loguru's logger is pickled then; what it logs there goes through that process's own connection."""
    loguru_logger.configure(patcher=Patch())
    logs.connect()
    copy = pickle.loads(pickle.dumps(loguru_logger))  # noqa: S301
    with in_span():
        copy.info("elsewhere")

    assert copy._core is not loguru_logger._core
    assert [(record.body, record.attributes["own"]) for record in logs.exported] == [("elsewhere", 1)]
    assert loguru_logs._connected


class Patch:
    def __call__(self, record):
        record["extra"]["own"] = 1

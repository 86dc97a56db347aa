"""`instrument()`: one line that patches producers, consumers and model calls, and the handle that it returns."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from otel_pipeline import semconv
from otel_pipeline.config.config import Config, ConfigError
from otel_pipeline.config.environment import sdk_disabled
from otel_pipeline.config.keywords import names_near_misses
from otel_pipeline.config.state_folder import health_folder
from otel_pipeline.config.variables import without_bad_values
from otel_pipeline.contracts.settings import ContractSettings
from otel_pipeline.detectors import inputs
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.engine import green_threads, inference, pipeline_propagator, pools, process, uwsgi
from otel_pipeline.engine.batch import leave_last_batch
from otel_pipeline.engine.engine import Engine
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.inference import Inferences
from otel_pipeline.engine.patching import Patches
from otel_pipeline.engine.propagation import Propagation
from otel_pipeline.engine.settings import DestinationTrust, EngineSettings
from otel_pipeline.engine.totals import Totals
from otel_pipeline.export.settings import ExportSettings
from otel_pipeline.garbage import not_looked_for
from otel_pipeline.greeting import say_where
from otel_pipeline.libraries import Libraries
from otel_pipeline.library_names import EVERY, GENAI, THREADING, spelled
from otel_pipeline.owners import own_settings, settings_classes
from otel_pipeline.registry import LibrarySettings, adapters
from otel_pipeline.status import AdapterStatus, ExportStatus, Status
from otel_pipeline.verdict import require_fresh
from otel_pipeline.verdict.monitoring import Monitoring
from otel_pipeline.verdict.report import Health, Process
from otel_pipeline.verdict.settings import VerdictSettings
from otel_pipeline.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.registry import Adapter
    from otel_pipeline.verdict.state_file import StateFile

_LOGGER = logging.getLogger("otel_pipeline")
_lock = threading.RLock()


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - in a forked child, the parent's may be held by a thread that is not there
    _lock = threading.RLock()


forks.add(_new_lock)
_pipeline: Pipeline | None = None


class Pipeline:
    """The handle of what `instrument()` did. All methods are safe in any thread and never raise."""

    def __init__(self, config: Config | None, guard: Guard, reason: str = "") -> None:
        self._config = config
        self._guard = guard
        self._reason = reason
        self._adapters: dict[str, AdapterStatus] = {}
        self._libraries: Libraries | None = None
        self._official: Any = None
        self._engine: Engine | None = None
        self._monitoring: Monitoring | None = None
        self._patches: Patches | None = None
        self._providers: Any = None
        self._connections: list[Any] = []
        self._undo: list[Callable[[], Any]] = []

    def _renamed(self) -> None:
        """Say, in a forked child, who writes the state file."""
        instance = getattr(self._providers, "instance", None)
        if self._monitoring is not None:
            self._monitoring.rename(instance or str(uuid4()))

    @property
    def active(self) -> bool:
        """Whether calls are instrumented now."""
        return self._engine is not None and self._engine.active

    def status(self) -> Status:
        """Return what was patched, what was skipped and why, where it exports, and what failed. Print it."""
        forks.notice()
        config, providers = self._config, self._providers
        environment = config.resolved if config is not None else None
        return Status(
            active=self.active,
            service_name=_service_name(config, providers),
            environment=environment.name if environment else None,
            environment_reason=environment.reason if environment else "",
            export=providers.destination if providers is not None else "nothing",
            providers=_providers_in_force(providers),
            adapters=(*self._adapters.values(), *(self._guarded("status", self._unsupported) or ())),
            problems=(*_said_by(config), *self._guard.problems.values()),
            errors=dict(self._guard.errors),
            foreign_not_followed=self._engine.foreign_traces.refused if self._engine is not None else 0,
            reason=self._reason,
            exports=_exports(providers),
        )

    def _unsupported(self) -> list[AdapterStatus]:
        return self._libraries.unsupported() if self.active and self._libraries is not None else []

    def health(self) -> Health | None:
        """Return the lights of all data that this process reads and sends; None where nothing is instrumented."""
        forks.notice()
        if self._monitoring is None:
            return None
        found: Health | None = self._guarded("health", self._monitoring.health)
        return found

    def flush(self, timeout: float = 5.0) -> bool:
        """Hand over what has been recorded so far, within `timeout` seconds; false when that was not possible."""
        try:
            return self._providers is None or bool(self._providers.flush(timeout))
        except Exception:
            self._guard.failed("flush")
            return False

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Uninstrument, hand over everything and stop, within `timeout` seconds."""
        self.uninstrument()
        try:
            return self._providers is None or bool(self._providers.shutdown(timeout))
        except Exception:
            self._guard.failed("shutdown")
            return False

    def uninstrument(self) -> None:
        """Restore every patched method. Providers stay, so that what was recorded still leaves the process."""
        global _pipeline  # noqa: PLW0603 - one pipeline per process
        with _lock:
            if self._engine is not None:
                self._engine.active = False
            if _pipeline is self:
                _pipeline = None
                process.activate(None)
                pipeline_propagator.activate(None)
                inference.activate(None)
                inputs.activate(None)
                require_fresh.activate(None)
                leave_last_batch()
            if self._monitoring is not None:
                self._guarded("uninstrument", self._monitoring.stop)
            for connection in self._connections:
                self._guarded("uninstrument", connection.disconnect)
            self._connections.clear()
            for undo in self._undo:
                self._guarded("uninstrument", undo)
            self._undo.clear()
            if self._patches is not None:
                kept = self._patches.restore()
                if kept:
                    self._guard.problem(
                        "restore",
                        f"{len(kept)} methods were wrapped by others meanwhile: ours stays below and does nothing: "
                        + ", ".join(kept[:5]),
                    )
            self._reason = self._reason or "uninstrumented"
            self._adapters = {name: AdapterStatus(name, "skipped", "uninstrumented") for name in self._adapters}

    def replace_others(self) -> None:
        """Take off instrumentations of others that patch the same methods; said once each."""
        with _lock:
            if self.active and self._libraries is not None:
                self._libraries.replace_others()

    def __repr__(self) -> str:
        return f"<otel_pipeline.Pipeline {'active' if self.active else 'off'}; print(pipe.status()) for more>"

    def _guarded(self, place: str, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except Exception:
            self._guard.failed(place)
            return None


@names_near_misses
def instrument(
    service_name: str | None = None,
    *,
    service_version: str | None = None,
    environment: str | None = None,
    libraries: Literal["auto"] | Iterable[str] = "auto",
    disable: Iterable[str] = (),
    endpoint: str | None = None,
    sample_rate: float | None = None,
    capture_content: bool | None = None,
    strict: bool | None = None,
    hooks: Mapping[Literal["send", "process", "inference"], Callable[..., object]] | None = None,
    event_time: Callable[[Any], datetime | float | None] | None = None,
    config_file: str | Path | None = None,
    _providers: Any = None,
) -> Pipeline:
    """Instrument producers, consumers and model calls of this process; every argument is optional.

    Works whether the clients were imported before or after, and beside providers that the application or
    `opentelemetry-instrument` has made. Calling it again returns the same handle: what can be changed while it runs is
    (more `libraries`, `disable`, `hooks`, `event_time`), what cannot is named.

        pipe = otel_pipeline.instrument("scorer")
        print(pipe.status())

    Args:
        service_name: `service.name`; without it `OTEL_SERVICE_NAME`, the file, or the program's name.
        service_version: `service.version`.
        environment: `deployment.environment.name`; found out when not given (docs/configuration.md).
        libraries: which libraries to instrument, by name; "auto" is all that are installed.
        disable: libraries to leave alone, by name.
        endpoint: the OTLP endpoint, for example `http://127.0.0.1:4318`.
        sample_rate: share of new traces that is recorded, 0 to 1; a parent's decision is followed.
        capture_content: has no effect yet: no content of messages and model calls stands on spans.
        strict: raise on bad values instead of saying so and using the default; true in `test`.
        hooks: functions called as f(span, message) for recorded spans of send, process or inference.
        event_time: function called as f(message), which returns when the message's event happened: a datetime (without
            zone: UTC), s since the epoch, or None where that is not known. What it raises is counted.
        config_file: the configuration file; otherwise `otel_pipeline.yaml` is looked for.

    Raises:
        ConfigError: all bad values at once, only when `strict`.
    """
    global _pipeline  # noqa: PLW0603 - one pipeline per process
    arguments = {
        "service_name": service_name,
        "service_version": service_version,
        "environment": environment,
        "libraries": None if libraries == "auto" else libraries,
        "disable": disable or None,
        "endpoint": endpoint,
        "sample_rate": sample_rate,
        "strict": strict,
        "hooks": hooks,
        "event_time": event_time,
        "config_file": config_file,
    }
    given = {name: value for name, value in arguments.items() if value is not None}
    with _lock, not_looked_for():
        if _pipeline is not None and _pipeline.active:
            if given:
                _again(_pipeline, given)
            return _pipeline
        guard = Guard()
        if capture_content:
            guard.problem("content", "capture_content has no effect yet: no content stands on spans; leave it out")
        try:
            from otel_pipeline.config.loading import load

            if sdk_disabled(os.environ):
                # A safety switch: nothing of other distributions is imported, and nothing raises.
                return Pipeline(load(given, own_settings(), raises=False), guard, "OTEL_SDK_DISABLED is true")
            # Once: each time the files of all installed distributions are read.
            offered = adapters(guard.problem)
            config = load(given, settings_classes(guard.problem, offered))
            pipeline = Pipeline(config, guard)
            with without_bad_values():
                _start(pipeline, config, guard, offered, _providers)
        except ConfigError:
            raise
        except Exception as error:
            guard.failed("instrument")
            return Pipeline(None, guard, f"instrument() failed with {type(error).__name__}")
        _pipeline = pipeline
        return pipeline


def _again(pipeline: Pipeline, given: Mapping[str, Any]) -> None:
    """Apply what a second call asks for, as far as it can be. Raises ConfigError for bad values, where `strict`."""
    from otel_pipeline.again import differing, fixed
    from otel_pipeline.config.loading import load

    guard, before, monitoring = pipeline._guard, pipeline._config, pipeline._monitoring
    try:
        if before is None or pipeline._engine is None:
            return
        after = load(given, before.table.owners[1:])
        for problem in after.problems:
            guard.problem(f"again.{problem}", str(problem))
        changed = differing(before, after, given, pipeline.status().service_name)
        for kind, function in (given.get("hooks") or {}).items():
            pipeline._engine.hook(kind).given = function
        if "event_time" in changed and monitoring is not None:
            monitoring.flows.settings = replace(monitoring.flows.settings, event_time=given["event_time"])
        if pipeline._libraries is not None and pipeline._patches is not None:
            libraries = pipeline._libraries
            libraries.widen(pipeline._patches, after.of(LibrarySettings))
            if pipeline._official is not None:
                pipeline._official.change(pipeline._patches, lambda name: libraries.wants((name, GENAI)))
        for said in fixed(before, after, changed):
            guard.problem(f"again.{said}", said)
    except ConfigError:
        raise
    except Exception:
        guard.failed("instrument")


def health() -> Health:
    """Return the health of the data that flows through this process: the lights of what it reads and sends.

    Of each destination and group that it reads: fresh, in order, keeping pace, contract kept, environment clean; of
    each destination that it sends to: delivered. Grey means no evidence. They are judged once per second, so asking
    costs nothing. Safe in any thread; never raises. Before `instrument()` there are none, and it says so.

        if not otel_pipeline.health().ok:
            print(otel_pipeline.health())
    """
    pipeline = _pipeline
    found = pipeline.health() if pipeline is not None else None
    if found is not None:
        return found
    reason = "nothing is instrumented: call otel_pipeline.instrument()"
    return Health(Process(os.getpid(), time.time(), "unknown_service", "", None), time.time(), 1.0, reason=reason)


def _start(pipeline: Pipeline, config: Config, guard: Guard, offered: tuple[Adapter, ...], providers: Any) -> None:
    from opentelemetry.propagate import get_global_textmap  # Raises on a misspelt propagator: not when we are imported.

    from otel_pipeline.export import logs, metrics, worker_ends

    forks.count_failure = guard.failed
    pipeline._patches = patches = Patches(guard)
    pipeline._guarded("fork", uwsgi.follow, patches, guard.problem)
    pipeline._guarded("gevent", green_threads.follow, patches, guard.problem)
    totals = Totals(problem=guard.problem)
    failures = totals.counter(semconv.OTEL_PIPELINE_SDK_ERRORS, "{error}", "Failures inside the instrumentation.")

    def read_failures() -> None:
        for place, count in list(guard.errors.items()):
            failures.cell({semconv.OTEL_PIPELINE_PLACE: place}).value = count

    failures.refresh = read_failures
    for problem in config.problems:
        _LOGGER.warning("otel_pipeline: %s", problem)
    for said in config.overridden:
        guard.problem(f"overridden.{said}", str(said))
    if providers is None:
        from otel_pipeline.export.providers import set_up

        providers = set_up(config, totals, problem=guard.problem, count=guard.count)
    else:
        pipeline._connections.append(metrics.connect(providers.meter_provider, totals, problem=guard.problem))
    pipeline._providers = providers
    settings = _engine_settings(config, _service_name(config, providers))
    spans = providers.spans_of("otel_pipeline", VERSION, semconv.SCHEMA_URL)
    clocks = {name: clock for name in ("clock_ns", "monotonic_ns") if (clock := getattr(providers, name, None))}
    engine = Engine(
        spans=spans,
        propagation=Propagation(get_global_textmap(), lambda reason: guard.count(f"header.{reason}")),
        totals=totals,
        guard=guard,
        settings=settings,
        **clocks,
    )
    inferences = Inferences(
        spans=spans,
        totals=totals,
        guard=guard,
        environment=settings.environment,
        exception_text=settings.exception_text,
        hook=engine.hook("inference"),
        **{name: clock for name, clock in clocks.items() if name == "clock_ns"},
    )
    pipeline._engine = engine
    wait_for_sends = getattr(providers, "wait_for_sends", None)
    if wait_for_sends is not None:
        wait_for_sends(engine.is_delivering)
    pipeline._guarded("health", _begin_monitoring, pipeline, config, engine, inferences, totals)
    forks.add(pipeline._renamed, Step.NAME)
    connected = pipeline._guarded(
        "logs",
        lambda: logs.connect(
            providers.logger_provider,
            settings.environment,
            level=logging.INFO,
            guard=guard,
            when_imported=patches.when_imported,
        ),
    )
    if connected is not None:
        pipeline._connections.append(connected)
    pipeline._libraries = libraries = Libraries(guard, pipeline._adapters, offered, config.of(LibrarySettings))
    libraries.instrument(patches, {"broker": (engine,), "model": (inferences, guard)})
    if not {THREADING, EVERY} & spelled(config.of(LibrarySettings).disable):
        pipeline._guarded("pool", pools.instrument, patches, engine)
    pipeline._guarded("ending", worker_ends.follow, patches)
    pipeline._guarded("genai", _switch_on_generative, pipeline, providers, inferences)
    process.activate(engine)
    pipeline_propagator.activate(settings.environment, engine.own_clock)
    inference.activate(inferences)
    pipeline._guarded("fork", uwsgi.followed)
    say_where(pipeline.status(), guard, on_stderr=config.resolved.is_local)


def _begin_monitoring(
    pipeline: Pipeline, config: Config, engine: Engine, inferences: Inferences, totals: Totals
) -> None:
    providers = pipeline._providers
    service, instance = _service_name(config, providers), getattr(providers, "instance", None) or str(uuid4())
    pipeline._monitoring = monitoring = Monitoring(
        engine,
        inferences,
        totals,
        config.of(HealthSettings, environment=config.resolved.name, service_name=service, configured=config),
        instance=instance,
        load_contract=partial(_contract_of, config.of(ContractSettings).directory),
    )
    answers = getattr(providers, "answers", None)
    if answers is not None:
        answers.listener = monitoring.clock.add
    monitoring.looked = getattr(providers, "each_second", None)
    # Where a test counts the clock's ticks, a thread of ours must not look at it.
    if getattr(providers, "clock_ns", None) is None:
        from otel_pipeline.export.ending import when_leaving

        monitoring.begin(_state_file(config, service, instance, engine.guard), when_leaving)


def _contract_of(folder: Path, destination: str) -> Contract | None:
    from otel_pipeline.contracts.files import contract_in

    return contract_in(folder, destination)


def _state_file(config: Config, service: str, instance: str, guard: Guard) -> StateFile | None:
    """Make the state file that the configuration asks for; None where it wants none."""
    from otel_pipeline.verdict.state_file import StateFile

    wanted = config.of(VerdictSettings).state_file
    if wanted == "off":
        return None
    return StateFile(health_folder(), service, instance, guard.problem, None if wanted == "auto" else wanted)


def _switch_on_generative(pipeline: Pipeline, providers: Any, inferences: Inferences) -> None:
    """Let official gen_ai instrumentations make their spans here; their calls are decisions on the data in hand."""
    from otel_pipeline.export import generative
    from otel_pipeline.export.official import Official

    patches, libraries = pipeline._patches, pipeline._libraries
    if patches is None or libraries is None:
        return
    tracers = generative.ObservedTracers(lambda: providers.tracer_provider, inferences.observed)
    official = Official(pipeline._guard, pipeline._adapters, tracers, providers.stamp_data_age)
    pipeline._official = official
    pipeline._undo.append(official.switch_off)
    official.switch_on_when_imported(patches, generative.installed(), lambda name: libraries.wants((name, GENAI)))


def _engine_settings(config: Config, service_name: str) -> EngineSettings:
    return config.of(
        EngineSettings,
        service_name=service_name,
        environment=config.resolved.name,
        trust=lambda destination: config.destination(DestinationTrust, destination).trust,
        configured=config,
    )


def _service_name(config: Config | None, providers: Any) -> str:
    name = getattr(providers, "service_name", None)
    if not name and config is not None:
        name = config.of(ExportSettings).service_name
    return name or "unknown_service"


def _said_by(config: Config | None) -> tuple[str, ...]:
    return () if config is None else tuple(str(problem) for problem in config.problems)


def _exports(providers: Any) -> tuple[ExportStatus, ...]:
    accounts: Callable[[], Iterable[Any]] | None = getattr(providers, "accounts", None)
    return tuple(account.status() for account in accounts()) if accounts is not None else ()


def _providers_in_force(providers: Any) -> tuple[str, ...]:
    if providers is None:
        return ()
    describe: Callable[[], Iterable[str]] | None = getattr(providers, "in_force", None)
    return tuple(describe()) if describe is not None else ()

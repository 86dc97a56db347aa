"""Declare an option where it is read: as a field of a frozen dataclass that carries all that is said of it.

    @dataclass(frozen=True)
    class KeysSettings:
        same_key: bool = option("destinations.*.same_key", "boolean", False, "Whether messages of one key are counted.")

From such fields are made: the table of options, the file's schema, loading and its checks, `otel-pipeline config` and
docs/configuration.md. The owner reads plain attributes; it gets its object through `Settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import _SpecialForm

T = TypeVar("T")

KindName = Literal[
    "boolean",
    "count",
    "duration",
    "function",
    "hooks",
    "libraries",
    "names",
    "path",
    "rate",
    "share",
    "size",
    "state file",
    "text",
    "trace rate",
    "URL",
    "version",
]
"""What a value is; `config/kinds.py` says how each is read. A `Literal` in its place gives choices."""

REQUIRED: Any = object()
"""Stands in place of a default: a named thing is nothing without the option."""

_KEY = "otel_pipeline.option"


@dataclass(frozen=True)
class Variable:
    """An environment variable that is not ours and has rules of its own."""

    name: str
    unit: str = ""
    """The unit of its bare numbers, written as in durations."""
    label: str | None = None
    """The attribute in `OTEL_RESOURCE_ATTRIBUTES` that says it too; the variable itself takes precedence."""
    is_read_elsewhere: bool = False
    """Whether OpenTelemetry reads the variable: it then decides, and our value is None."""


@dataclass(frozen=True)
class Names:
    """What the keys of a mapping are, where the user chooses them."""

    called: str
    """What the pages call them: `destinations.<pattern>`."""
    remedy: str
    """What to do where the file has no mapping."""
    doubt: Callable[[str, Any], tuple[str, str] | None] | Literal["environment"] | None = None
    """Returns what is wrong with a name and its value, and the remedy, or None. "environment": it is misspelt."""
    others: str | None = None
    """The name that stands for all the others, if there is one: defaults are shown under it."""


class Doubt(NamedTuple):
    """What is wrong with a name of a list of names, and what would be right."""

    message: str
    """Behind "which": is no library that is known."""
    remedy: str
    is_near: bool
    """Whether it is near to a name that is known, and so a slip."""


@dataclass(frozen=True)
class Option:
    """What is said of one option."""

    path: str
    """Its path in the file, `process.parent`; in a mapping of named things, `destinations.*.trust`."""
    kind: KindName | _SpecialForm | None
    """The kind of value; None for a mapping of things with options of their own."""
    help: str
    default: Any = None
    """The default, in the field's form and unit."""
    variable: Variable | None = None
    argument: str | None = None
    """The keyword of `instrument()`."""
    per_environment: Mapping[str, Any] = field(default_factory=dict)
    in_file: bool = True
    overridable: bool = True
    """Whether `environments:` may say it."""
    adds_up: bool = False
    """Whether the lists of all sources are one."""
    names: Names | None = None
    """What the keys of a mapping are."""
    each: type | None = None
    """The class that a mapping's things are made of; it has the field `name`."""
    one_of: tuple[str, ...] = ()
    """The options of which such a thing has exactly one."""
    doubt: Callable[[str], Doubt | None] | None = None
    """What is wrong with a name, where the list of names is closed; such a name is reported and left out."""


PATTERNS = Names("pattern", 'name each destination below it, or "*" for all', others="*")
DESTINATIONS = Option(
    "destinations",
    None,
    "What is said of destinations; the most specific pattern that says an option wins.",
    names=PATTERNS,
)
"""The mapping in which any owner declares options: those whose path begins with `destinations.*.`."""


def option(
    path: str,
    kind: KindName | _SpecialForm,
    default: T,
    help: str,  # noqa: A002 - argparse's word
    *,
    variable: str | Variable | None = "",
    argument: str | None = None,
    per_environment: Mapping[str, T] = MappingProxyType({}),
    in_file: bool = True,
    overridable: bool = True,
    adds_up: bool = False,
    names: Names | None = None,
    doubt: Callable[[str], Doubt | None] | None = None,
) -> T:
    """Declare an option as a dataclass's field.

    Args:
        path: where it stands in the file, `process.parent`; `destinations.*.trust` is said of each destination.
        kind: what the value is; a `Literal` gives its choices.
        default: in the form and unit that the field has: a duration's field is named `..._s` or `..._ms`.
        help: one sentence for the page, the schema and editors.
        variable: the environment variable; derived from the path where it is left out, none where it is None.
        argument: the keyword of `instrument()`, if there is one.
        per_environment: the defaults of the environments that have another one.
        in_file: false for what only code can say.
        overridable: whether `environments:` may say it.
        adds_up: whether the lists of all sources are one.
        names: for a mapping, what its keys are; `kind` is that of its values.
        doubt: for a closed list of names, what is wrong with one of them, or None.
    """
    if variable == "":
        named = "*" in path or names is not None
        variable = None if named or not in_file else f"OTEL_PIPELINE_{path.replace('.', '_').upper()}"
    declared = Option(
        path,
        kind,
        help,
        MappingProxyType(dict(default)) if isinstance(default, Mapping) else default,
        Variable(variable) if isinstance(variable, str) else variable,
        argument,
        per_environment,
        in_file,
        overridable,
        adds_up,
        names,
        doubt=doubt,
    )
    made: T = _field(declared)
    return made


def things(path: str, each: type[T], help: str, *, names: Names, one_of: tuple[str, ...] = ()) -> tuple[T, ...]:  # noqa: A002 - argparse's word
    """Declare a mapping of named things: `each` has the field `name` and declares options `{path}.*.…`."""
    declared: tuple[T, ...] = _field(Option(path, None, help, (), names=names, each=each, one_of=one_of))
    return declared


def _field(declared: Option) -> Any:
    metadata = {_KEY: declared}
    default = declared.default
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, Mapping):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def options(owner: type) -> Iterator[tuple[str, Option]]:
    """Yield the options that a class declares, each with its field's name; none for a class that is no dataclass."""
    for each in fields(owner) if hasattr(owner, "__dataclass_fields__") else ():
        declared = each.metadata.get(_KEY)
        if declared is not None:
            yield each.name, declared


def declared_in(module: Any) -> tuple[type, ...]:
    """Return a module's classes that declare options, in their order, without those that named things are made of."""
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__ and any(options(each))
    ]
    reached = {declared.each for owner in found for _, declared in options(owner)}
    return tuple(owner for owner in found if owner not in reached)


class Settings(Protocol):
    """What owners get their settings from. Safe in any thread."""

    def of(self, owner: type[T], **others: Any) -> T:
        """Return the owner's settings without what is said of destinations; `others` are fields that are no options."""

    def destination(self, owner: type[T], name: str) -> T:
        """Return the owner's settings for the destination of this name. To be asked once per name, not per message."""


class Defaults:
    """Settings where nobody has said anything."""

    def of(self, owner: type[T], **others: Any) -> T:
        """Return the defaults."""
        return owner(**others)

    def destination(self, owner: type[T], name: str) -> T:  # noqa: ARG002 - the same for each
        """Return the defaults."""
        return owner()


DEFAULTS: Settings = Defaults()

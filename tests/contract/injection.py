"""An exception at one line of ours, at a time: which lines there are in what a client does, and the one that raises.

A line is told by the lines of ours that lead to it: what two callers share is tried from both. Left out, by rule:

- `try:`, `def`, and what only moves names, constants and slots of our own (`return message`, `if sending is None:`):
  nothing of it is called, so nothing of it can raise;
- the bare call of what is the application's: an exception there is its own, and where the client is called decides which
  of our lines come before and which after;
- what `process(message)` and the like make of their arguments: the application gets the object, or Python's own error;
- what decorates: that is done while a module is imported;
- leaving a `with`: the interpreter goes from its body into `__exit__` without a step in between.
"""

from __future__ import annotations

import ast
import functools
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import otel_pipeline
from otel_pipeline.engine import guard

ROOT = str(Path(otel_pipeline.__file__).parent)
THEIRS = {"original", "method", "function", "inherited", "use_span"}
"""How the wrappers call what they stand in for."""
THEIR_OBJECTS = {"generator", "plain", "tracer"}
GUARDED_WHOLE = {"enter", "finish", "_resume", "_suspend", "_leave"}
GUARDED_METHODS = {"told", "__enter__", "__exit__", "check", "refusal", "start_span", "_watched"}
"""What needs nothing but the one frame that the application's own call beside it needs too."""
_NOT_ON_THE_WAY = ("/testing/",)
_NOTHING_BUT_A_STATEMENT = (ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal)
_VALUED = (ast.Return, ast.Assign, ast.AnnAssign, ast.Expr, ast.Raise, ast.If, ast.While)
_WHOLE = (*_NOTHING_BUT_A_STATEMENT, ast.Return, ast.Assign, ast.AnnAssign, ast.Expr, ast.Raise)


def lines_left_out(source):
    """({line: why}, {first line of a `with`: its body's lines}) of a file."""
    out, bodies = {}, {}

    def look(node, slots):
        if isinstance(node, ast.ClassDef):
            slots = _slots(node)
        reason = _reason(node, slots)
        if reason is not None:
            last = node.end_lineno if isinstance(node, _WHOLE) else node.body[0].lineno - 1
            last = max(node.lineno, last)
            out.update(dict.fromkeys(range(node.lineno, last + 1), reason))
        if isinstance(node, (ast.With, ast.AsyncWith)):
            bodies[node.lineno] = range(node.body[0].lineno, node.end_lineno + 1)
        for child in ast.iter_child_nodes(node):
            look(child, slots)

    look(ast.parse(source), frozenset())
    return out, bodies


def _slots(node):
    for each in node.body:
        if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == "__slots__":
            return frozenset(ast.literal_eval(each.value))
    return frozenset()


def _reason(node, slots):
    """Why a statement is left out; None where it can raise."""
    move = functools.partial(_moves, slots=slots)
    rules = {
        "a statement": _states(node),
        "a move": isinstance(node, _VALUED) and _is_a_move(node, move),
        "theirs": _hands_over(node, move),
        "what the application has asked for": isinstance(node, ast.Return) and _constructs(node.value, move),
    }
    return next((why for why, holds in rules.items() if holds), None)


def _states(node):
    if isinstance(node, ast.ExceptHandler):
        return isinstance(node.type, ast.Name)
    defines = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list
    return defines or isinstance(node, (ast.Try, *_NOTHING_BUT_A_STATEMENT))


def _is_a_move(node, move):
    if isinstance(node, (ast.If, ast.While)):
        return _compares(node.test, move)
    if isinstance(node, ast.Raise):
        return move(node.exc) and move(node.cause)
    if not all(move(each) for each in _targets(node)):
        return False
    value = node.value
    if isinstance(value, ast.IfExp):
        return _compares(value.test, move) and move(value.body) and move(value.orelse)
    return move(value)


def _hands_over(node, move):
    if isinstance(node, ast.For):
        return getattr(node.iter, "id", None) in THEIR_OBJECTS
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return all(_is_theirs(each.context_expr, move) for each in node.items)
    valued = isinstance(node, (ast.Return, ast.Assign, ast.AnnAssign, ast.Expr))
    return valued and all(move(each) for each in _targets(node)) and _is_theirs(node.value, move)


def _targets(node):
    return node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]


def _moves(node, slots):
    if isinstance(node, ast.Tuple):
        return all(_moves(each, slots) for each in node.elts)
    while isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr in slots:
            return True
        node = node.value
        if isinstance(node, ast.Name):
            return False
    return node is None or isinstance(node, (ast.Name, ast.Constant))


def _compares(node, move):
    if isinstance(node, ast.BoolOp):
        return all(_compares(each, move) for each in node.values)
    if isinstance(node, ast.Constant):
        return True
    return (
        isinstance(node, ast.Compare)
        and isinstance(node.ops[0], (ast.Is, ast.IsNot))
        and len(node.ops) == 1
        and isinstance(node.left, ast.Name)
        and move(node.comparators[0])
    ) or (
        isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"callable", "isinstance"} and move(node.args[0])
    )


def _constructs(node, move):
    """`process(message)`: the application gets the object that it makes, or Python's own error."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id[0].isupper()
        and all(move(each) for each in (*node.args, *(each.value for each in node.keywords)))
    )


def _is_theirs(node, move):
    if isinstance(node, ast.Await):
        node = node.value
    if isinstance(node, ast.IfExp):
        return _compares(node.test, move) and _is_theirs(node.body, move) and _is_theirs(node.orelse, move)
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Yield) and move(node.value)
    called, arguments = node.func, [*node.args, *(each.value for each in node.keywords)]
    if not all(move(each.value if isinstance(each, ast.Starred) else each) for each in arguments):
        return False
    if isinstance(called, ast.Name):
        # The client as an iterator, too.
        return called.id in THEIRS | GUARDED_WHOLE or (called.id == "next" and isinstance(arguments[0], ast.Attribute))
    of = getattr(called, "value", None)
    if isinstance(of, ast.Name):
        return of.id in THEIR_OBJECTS or called.attr in GUARDED_METHODS
    return isinstance(of, ast.Call) and getattr(of.func, "id", "") == "type"  # `type(client).__anext__(client)`


@functools.cache
def _left_out(file):
    return lines_left_out(Path(file).read_text("utf-8"))


class Injection:
    """Watches one act at a time, in every thread that was started since it is in place."""

    def __init__(self):
        self.armed = False
        self.seen = {}
        """The lines of the act, in order: each by the lines of ours that lead to it."""
        self._at, self._interrupt = None, None
        self._codes, self._wanted = {}, frozenset()
        """The functions of each line that was seen: no other one is looked at when something is raised there."""
        self.hit = False

    @contextmanager
    def in_place(self, *, everywhere=True):
        """To be entered before the clients' threads are started; not `everywhere` is in this thread alone."""
        here, before, failed = threading.current_thread(), sys.gettrace(), guard.Place.failed

        def traced(*arguments, **options):
            if everywhere or threading.current_thread() is here:
                self.trace()
            return failed(*arguments, **options)

        guard.Place.failed = traced
        if everywhere:
            threading.settrace(self._call)
        self.trace()
        try:
            yield self
        finally:
            sys.settrace(before)
            threading.settrace(None)
            guard.Place.failed = failed

    def trace(self):
        """Watch the thread that calls: where something was raised, nothing is watched any more."""
        sys.settrace(self._call)

    @contextmanager
    def at(self, line, interrupt):
        """Call a function that raises there, once; without a line, only see which lines there are."""
        self.seen, self._at, self._interrupt, self.hit = {}, line, interrupt, False
        self._wanted = frozenset() if line is None else self._codes[line[0]]
        self.armed = True
        self.trace()
        try:
            yield
        finally:
            self.armed = False

    def _call(self, frame, _event, _argument):
        if not self.armed or not (frame.f_code in self._wanted if self._at else _is_ours(frame.f_code)):
            return None
        before, left_out, bodies = None, *_left_out(frame.f_code.co_filename)

        def line(frame, event, _argument):
            nonlocal before
            if event != "line" or not self.armed:
                return line
            last, before = before, frame.f_lineno
            if before in left_out or last in bodies.get(before, ()):
                return line
            if self._at is None:
                way = tuple(_way(frame))
                self.seen.setdefault(way)
                self._codes.setdefault(way[0], set()).add(frame.f_code)
            elif before == self._at[0][1] and not self.hit and tuple(_way(frame)) == self._at:
                self.hit = True
                self._interrupt()
            return line

        return line


@functools.cache
def _is_ours(code):
    file = code.co_filename
    return file.startswith(ROOT) and not any(each in file for each in _NOT_ON_THE_WAY)


def _way(frame):
    """The lines of ours that lead here, this one first."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(ROOT):
            yield frame.f_code.co_filename[len(ROOT) + 1 :], frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back

"""An exception at one line of ours, at a time: which lines there are in what a client does, and the one that raises.

A line is told by the lines of ours that lead to it: what two callers share is tried from both. Left out, by rule:

- `try:`, `def`, and what only moves names, constants and slots of our own (`return message`, `if sending is None:`):
  nothing of it is called, so nothing of it can raise;
- the bare call of what is the application's: an exception there is its own, and where the client is called decides which
  of our lines come before and which after;
- what `process(message)` and the like make of their arguments: the application gets the object, or Python's own error;
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
THEIRS = {"original", "method", "function", "inherited"}
"""How the wrappers call what they stand in for."""
GUARDED_WHOLE = {"_quietly"}
"""What needs nothing but the one frame that the application's own call beside it needs too."""
_NOT_ON_THE_WAY = ("/testing/",)
_NOTHING_BUT_A_STATEMENT = (ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal)


def lines_left_out(source):
    """({line: why}, {first line of a `with`: its body's lines}) of a file."""
    out, bodies = {}, {}

    def look(node, slots):
        if isinstance(node, ast.ClassDef):
            slots = _slots(node)
        reason = _reason(node, slots)
        if reason is not None:
            last = node.lineno if isinstance(node, (ast.Try, ast.If, ast.While)) else node.end_lineno
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
    if isinstance(node, (ast.Try, *_NOTHING_BUT_A_STATEMENT)):
        return "a statement"
    if isinstance(node, (ast.Return, ast.Assign, ast.AnnAssign, ast.Expr)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if all(move(each) for each in targets):
            if move(node.value):
                return "a move"
            if _is_theirs(node.value, move):
                return "theirs"
    raises = isinstance(node, ast.Raise) and move(node.exc) and move(node.cause)
    if raises or (isinstance(node, (ast.If, ast.While)) and _compares(node.test, move)):
        return "a move"
    if isinstance(node, ast.Return) and _constructs(node.value, move):
        return "what the application has asked for"
    return None


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
    return (
        isinstance(node, ast.Compare)
        and isinstance(node.ops[0], (ast.Is, ast.IsNot))
        and len(node.ops) == 1
        and isinstance(node.left, ast.Name)
        and move(node.comparators[0])
    ) or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "callable" and move(node.args[0]))


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
    if not isinstance(node, ast.Call):
        return False
    called, arguments = node.func, [*node.args, *(each.value for each in node.keywords)]
    if not all(move(each.value if isinstance(each, ast.Starred) else each) for each in arguments):
        return False
    if isinstance(called, ast.Name) and called.id == "next":  # The client as an iterator.
        return isinstance(node.args[0], ast.Attribute)
    if isinstance(called, ast.Name) and called.id in GUARDED_WHOLE:
        return True
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Call):  # `type(client).__anext__(client)`
        return getattr(called.value.func, "id", "") == "type"
    return isinstance(called, ast.Name) and called.id in THEIRS


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

        def traced(*arguments):
            if everywhere or threading.current_thread() is here:
                self.trace()
            return failed(*arguments)

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

"""Where a configuration file is looked for, and whose is read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from otel_pipeline.config import location
from otel_pipeline.config.loading import load
from otel_pipeline.export.settings import ExportSettings
from otel_pipeline.owners import own_settings

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners, permissions and links of POSIX")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A program in `project/service`, started in `elsewhere`."""
    for name in ("project/service", "elsewhere/below"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere" / "below")
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", str(tmp_path / "project" / "service" / "app.py"), raising=False
    )
    return tmp_path


def place(folder, text=""):
    path = folder / "otel_pipeline.yaml"
    path.write_text(text)
    return path


class Found:
    """What was found, and what was said of it."""

    def __init__(self, argument="", directory=None, **environ):
        self.mistakes, self.remarks = [], []
        file = location.find(
            argument, environ, directory, lambda *words: self.mistakes.append(words), self.remarks.append
        )
        self.path = file and file.path


@pytest.mark.parametrize(
    ("repository", "read"),
    [
        (None, ["project/service", "elsewhere/below"]),
        ("project/service", ["project/service", "elsewhere/below"]),
        ("project", ["project/service", "project", "elsewhere/below"]),
        ("elsewhere", ["project/service", "elsewhere/below", "elsewhere"]),
        (".", ["project/service", "project", ".", "elsewhere/below", "elsewhere"]),
    ],
)
def test_where_it_is_looked_for(tree, repository, read):
    """Beside the program, in the working folder, and from both up to the root of their repository: the first one."""
    if repository is not None:
        (tree / repository / ".git").mkdir()
    found = []
    for folder in ("project/service", "project", "elsewhere/below", "elsewhere", "."):
        place(tree / folder)
    while (path := Found().path) is not None:
        found.append(path.parent)
        path.unlink()

    assert found == [tree / folder if folder != "." else tree for folder in read]


def test_a_repository_may_be_a_file(tree):
    """As in a work tree of git's, or a submodule."""
    (tree / "project" / ".git").write_text("gitdir: elsewhere")
    path = place(tree / "project")

    assert Found().path == path


def test_a_file_above_that_is_not_read_is_said(tree):
    """Somebody relies on it; said once, with the remedy, and not where it is somebody else's."""
    path = place(tree / "project")
    said = Found().remarks

    assert said == [
        f"{path} is not read: it lies above the program and is in no repository; set OTEL_PIPELINE_CONFIG_FILE to it"
    ]
    path.chmod(0o666)
    assert Found().remarks == []


def test_the_file_system_ends_the_search(tree, monkeypatch):
    """A repository beyond it is another one's."""
    (tree / "project" / ".git").mkdir()
    path = place(tree / "project")
    stat = Path.stat
    other = os.stat_result((0o40755, 1, -1, 1, 0, 0, 0, 0, 0, 0))
    assert Found().path == path
    monkeypatch.setattr(Path, "stat", lambda self, **how: other if self == tree / "project" else stat(self, **how))

    assert (Found().path, Found().remarks) == (None, [])


def owned_by(monkeypatch, **users):
    """Have files and folders belong to users, by name."""
    real = {name: getattr(os, name) for name in ("lstat", "fstat")}
    path_stat = Path.stat

    def changed(found, name):
        return os.stat_result((*found[:4], users.get(Path(name).name.partition(".")[0], found.st_uid), *found[5:10]))

    monkeypatch.setattr(os, "lstat", lambda path: changed(real["lstat"](path), path))
    monkeypatch.setattr(
        os, "fstat", lambda file: changed(real["fstat"](file), Path(f"/proc/self/fd/{file}").readlink())
    )
    monkeypatch.setattr(Path, "stat", lambda self, **how: changed(path_stat(self, **how), self))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of open files")
@pytest.mark.parametrize(
    ("users", "is_read"),
    [
        ({"otel_pipeline": 0}, True),
        ({"otel_pipeline": os.geteuid() if os.name != "nt" else 0}, True),
        ({"otel_pipeline": 4321, "service": 4321}, True),
        ({"otel_pipeline": 4321}, False),
        ({"otel_pipeline": 4321, "service": 1234}, False),
        ({"otel_pipeline": 4321, "below": 4321}, False),
    ],
)
def test_whose_file_is_read(tree, monkeypatch, users, is_read):
    """This user's, root's, and that of the owner of the program's folder; another one is said, and not read."""
    path = place(tree / "project" / "service")
    owned_by(monkeypatch, **users)
    found = Found()

    assert (found.path, found.mistakes) == (path if is_read else None, [])
    said = f"{path} was found and is not read: it belongs to user 4321, who is neither this process's nor the program's"
    assert found.remarks == ([] if is_read else [f"{said}; if it is meant, set OTEL_PIPELINE_CONFIG_FILE to it"])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of open files")
def test_a_link_must_be_trusted_as_well(tree, monkeypatch):
    """Somebody else's link to a file of this user's is somebody else's choice."""
    (tree / "mine.yaml").write_text("")
    (tree / "project" / "service" / "otel_pipeline.yaml").symlink_to(tree / "mine.yaml")
    read = Found().path
    owned_by(monkeypatch, otel_pipeline=4321)

    assert (read.name, Found().path) == ("otel_pipeline.yaml", None)


@pytest.mark.parametrize(("mode", "is_read"), [(0o644, True), (0o664, True), (0o646, False), (0o666, False)])
def test_a_file_that_everybody_may_write_is_not_read(tree, mode, is_read):
    """Groups are used to share a project."""
    path = place(tree / "project" / "service")
    path.chmod(mode)
    found = Found()

    assert (found.path == path, len(found.remarks)) == (is_read, int(not is_read))


def test_a_refused_file_does_not_hide_the_next_one(tree):
    """Else whoever can write into one folder could switch a configuration off."""
    place(tree / "project" / "service").chmod(0o666)
    path = place(tree / "elsewhere" / "below")

    assert Found().path == path


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_named_file_is_read_whosever_it_is(tree, how):
    """Whoever names it has decided."""
    path = place(tree / "elsewhere")
    path.chmod(0o666)
    found = Found(str(path)) if how == "argument" else Found(OTEL_PIPELINE_CONFIG_FILE=str(path))

    assert (found.path, found.remarks, found.mistakes) == (path, [], [])


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "no path", "no home", "below a file"])
def test_a_named_file_that_is_none_is_said(tree, monkeypatch, kind):
    """With what names it; nothing raises, and nothing is waited for."""
    os.mkfifo(tree / "pipe")
    (tree / "file").write_text("")
    if kind == "no home":
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
        monkeypatch.delenv("HOME")
    names = {"folder": ".", "no path": "a\0b", "no home": "~/otel_pipeline.yaml", "below a file": "file/x"}
    found = Found(str(tree / names.get(kind, kind)) if kind != "no home" else names[kind])

    assert (found.path, len(found.mistakes), found.remarks) == (None, 1, [])


@pytest.mark.parametrize("kind", ["folder", "pipe", "circle"])
def test_what_is_no_plain_file_is_not_read(tree, kind):
    """And not waited for."""
    path = tree / "project" / "service" / "otel_pipeline.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    found = Found()

    assert (found.path, found.mistakes, len(found.remarks)) == (None, [], 1)


def test_what_is_not_read_stops_no_strict_program(tree):
    """It is no mistake of the user's; `status()` shows it."""
    path = place(tree / "project" / "service", "service_name: theirs")
    path.chmod(0o666)
    config = load({"strict": True}, own_settings(), environ={})

    assert config.of(ExportSettings).service_name is None
    assert [said.split(":")[0] for said in config.overridden] == [f"{path} was found and is not read"]


def test_a_working_folder_that_was_deleted(tree):
    """Nothing raises; the program's folder is looked at all the same."""
    path = place(tree / "project" / "service")
    (tree / "elsewhere" / "below").rmdir()

    assert Found().path == path

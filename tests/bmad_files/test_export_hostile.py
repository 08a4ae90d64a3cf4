"""An export never writes outside its folder, never over a newer edit, and says of each refusal what to do."""

import errno
import hashlib
import os
import random
import resource
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from bmad_installs import add_v4_docs, add_v6_docs, write
from harness import new_project
from stored_rows import change, dump, fetch, story
from test_export import BUILDING, STORY_22, STORY_23, TRACKER, bytes_of, diff, move, section

from bmad_mcp.bmad_files import exporting
from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.bmad_files.folder import BYTE_LIMIT
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.writing.folder_writer import FolderWriter, NotWritten
from bmad_mcp.errors import BmadError

OLD, NEW = b"old\n", b"new\n"
MARK = ".bmad-mcp-"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def everything(place: Path) -> dict[str, object]:
    """What lies anywhere below, links and folders included."""
    found: dict[str, object] = {}
    for one in sorted(place.rglob("*")):
        name = one.relative_to(place).as_posix()
        found[name] = os.readlink(one) if one.is_symlink() else one.read_bytes() if one.is_file() else "folder"
    return found


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with one document."""
    write(tmp_path / "root", "docs/a.md", OLD.decode())
    return tmp_path / "root"


@pytest.fixture
def outside(tmp_path):
    """A folder beside the project; fails the test when something beside the project changed."""
    write(tmp_path / "outside", "a.md", "outside\n")
    place = tmp_path / "outside"
    yield place
    assert everything(place) == {"a.md": b"outside\n"}
    assert {one.name for one in tmp_path.iterdir()} <= {"outside", "root", "shop", "shop6"}


def no_strays(folder: Path) -> bool:
    return not list(folder.rglob(f"{MARK}*"))


# ── the writer alone ──

HOSTILE = [
    "../x.md",
    "docs/../../x.md",
    "docs/../x.md",
    "docs/./x.md",
    "docs//x.md",
    "/etc/x.md",
    "docs/",
    "",
    ".",
    "..",
    "docs/..",
    "docs\\..\\..\\x.md",
    "..\\x.md",
    "C:/x.md",
    "c:\\x.md",
    "docs/a\0b.md",
    "docs/a\nb.md",
    "docs/a\rb.md",
    "docs/a\x1b[2Jb.md",
    "docs/\u202egnp.md",
    "docs/.g\u200cit/x.md",
    "docs/" + "x" * 300 + ".md",
    "docs/" + "é" * 130 + ".md",
    "d/" * 600 + "x.md",
    ".git/hooks/post-commit",
    ".GIT/config",
    "docs/.Git/config",
    "docs/\uff0egit/config",
    ".hg/hgrc",
    "docs/.svn/x",
    "docs/\udcff.md",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_that_is_not_plainly_inside_is_never_written(root, outside, path):
    before = everything(root)
    with FolderWriter(root) as writer:
        for expected in (None, sha(OLD)):
            with pytest.raises(NotWritten) as refused:
                writer.write(path, NEW, expected)
            assert "does not lead to a plain place inside the folder" in refused.value.message
            assert refused.value.mend
    assert everything(root) == before


def test_a_link_in_place_of_the_file_or_of_a_folder_is_never_followed(root, outside):
    (root / "docs/link.md").symlink_to(outside / "a.md")
    (root / "docs/dangling.md").symlink_to(outside / "new.md")
    (root / "docs/deep").symlink_to(outside, target_is_directory=True)
    (root / "out").symlink_to(outside, target_is_directory=True)
    (root / "docs/inside.md").symlink_to("a.md")
    before = everything(root)
    with FolderWriter(root) as writer:
        for path in ("docs/link.md", "docs/dangling.md", "docs/deep/a.md", "docs/deep/new.md", "out/x/y.md"):
            for expected in (None, sha(b"outside\n")):
                with pytest.raises(NotWritten, match="A link or a file is in the way") as refused:
                    writer.write(path, NEW, expected)
                assert "Put a plain folder in its place" in refused.value.mend
        with pytest.raises(NotWritten):
            writer.write("docs/inside.md", NEW, sha(OLD))
    assert everything(root) == before


def test_what_is_no_plain_file_is_neither_opened_for_writing_nor_waited_for(root, outside):
    os.mkfifo(root / "docs/pipe.md")
    (root / "docs/folder.md").mkdir()
    with socket.socket(socket.AF_UNIX) as listener, inside(root / "docs"):
        listener.bind("socket.md")
    paths = ["docs/pipe.md", "docs/folder.md", "docs/socket.md", "docs/a.md/below.md"]
    if os.geteuid() == 0:
        os.mknod(root / "docs/device.md", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        paths.append("docs/device.md")
    with FolderWriter(root) as writer:
        for path in paths:
            for expected in (None, sha(b"")):
                with pytest.raises(NotWritten, match=r"^(In its place is|A link or a file is in the way)") as refused:
                    writer.write(path, NEW, expected)
                assert refused.value.mend
    assert (root / "docs/a.md").read_bytes() == OLD
    assert no_strays(root)


@contextmanager
def inside(place: Path):
    """Works in a folder for a moment: the path of a socket is short, the folder's may be long."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(place)
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def test_a_hard_link_to_a_file_outside_is_cut_and_not_written_through(root, tmp_path):
    twin = tmp_path / "twin.md"
    os.link(root / "docs/a.md", twin)
    with FolderWriter(root) as writer:
        writer.write("docs/a.md", NEW, sha(OLD))
    assert (twin.read_bytes(), (root / "docs/a.md").read_bytes()) == (OLD, NEW)


def test_a_file_that_is_not_what_was_read_is_left(root, outside):
    with FolderWriter(root) as writer:
        with pytest.raises(NotWritten, match="edited meanwhile") as refused:
            writer.write("docs/a.md", NEW, sha(b"something else"))
        assert refused.value.mend == "Import the edit, then export again."
        with pytest.raises(NotWritten, match="is there already"):
            writer.write("docs/a.md", NEW, None)
        with pytest.raises(NotWritten, match="gone"):
            writer.write("docs/b.md", NEW, sha(OLD))
        with pytest.raises(NotWritten, match="gone"):
            writer.write("docs/nowhere/b.md", NEW, sha(OLD))
    assert everything(root) == {"docs": "folder", "docs/a.md": OLD}


def test_a_file_that_grew_beyond_all_limits_is_left_and_not_read_to_its_end(root):
    with (root / "docs/a.md").open("r+b") as file:
        file.truncate(100 << 20)
    begun = time.perf_counter()
    with FolderWriter(root) as writer, pytest.raises(NotWritten, match="edited meanwhile"):
        writer.write("docs/a.md", NEW, sha(OLD))
    assert time.perf_counter() - begun < 1
    assert (root / "docs/a.md").stat().st_size == 100 << 20


@pytest.fixture
def before_the_rename(monkeypatch):
    """Does something after the new text is on the disk and before it takes the file's place."""

    def at(act):
        real = os.fsync

        def fsync(descriptor):
            real(descriptor)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                monkeypatch.setattr(os, "fsync", real)
                act()

        monkeypatch.setattr(os, "fsync", fsync)

    return at


def test_what_happens_to_the_file_while_it_is_written_counts(root, outside, before_the_rename):
    file = root / "docs/a.md"

    def swap(link_to: Path):
        file.unlink()
        file.symlink_to(link_to)

    cases = [
        (lambda: file.write_bytes(b"edited\n"), "edited meanwhile", b"edited\n"),
        (file.unlink, "gone", None),
        (lambda: swap(outside / "a.md"), "A link or a file is in the way", b"outside\n"),
        (lambda: (file.unlink(), file.mkdir()), "In its place is", None),
    ]
    for act, message, left in cases:
        if file.is_symlink() or file.exists():
            file.unlink()
        file.write_bytes(OLD)
        before_the_rename(act)
        with FolderWriter(root) as writer, pytest.raises(NotWritten, match=message):
            writer.write("docs/a.md", NEW, sha(OLD))
        assert (file.read_bytes() if file.is_file() else None) == left
        assert no_strays(root)


def test_a_new_file_does_not_take_the_place_of_one_that_just_appeared(root, outside, before_the_rename, monkeypatch):
    real = FolderWriter._check
    checks = []

    def check(self, folder, name, expected):
        checks.append(name)
        found = real(self, folder, name, expected)
        if len(checks) == 2:
            # After the last look: only the system call itself can tell now.
            (root / "docs/b.md").write_bytes(b"of a person\n")
        return found

    monkeypatch.setattr(FolderWriter, "_check", check)
    with FolderWriter(root) as writer, pytest.raises(NotWritten, match="just appeared"):
        writer.write("docs/b.md", NEW, None)
    assert (root / "docs/b.md").read_bytes() == b"of a person\n"
    assert no_strays(root)


def test_a_folder_that_becomes_a_link_while_it_is_written_keeps_the_text_inside(root, outside, before_the_rename):
    def swap():
        (root / "docs").rename(root / "moved")
        (root / "docs").symlink_to(outside, target_is_directory=True)

    before_the_rename(swap)
    with FolderWriter(root) as writer:
        writer.write("docs/a.md", NEW, sha(OLD))
    assert (root / "moved/a.md").read_bytes() == NEW


@pytest.mark.parametrize("call", ["open", "write", "fsync", "fchmod", "rename", "link"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_whatever_the_file_system_refuses_the_old_text_stays_and_nothing_else(root, monkeypatch, call, number):
    real = getattr(os, call)

    def refuse(*arguments, **more):
        if call == "open" and not arguments[1] & os.O_CREAT:
            return real(*arguments, **more)
        raise OSError(number, os.strerror(number))

    path, expected = ("docs/b.md", None) if call == "link" else ("docs/a.md", sha(OLD))
    monkeypatch.setattr(os, call, refuse)
    with FolderWriter(root) as writer, pytest.raises(NotWritten) as refused:
        writer.write(path, NEW, expected)
    monkeypatch.undo()
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert refused.value.message.startswith("The disk is full" if full else "The f")
    assert "export again" in refused.value.mend
    assert everything(root) == {"docs": "folder", "docs/a.md": OLD}


def test_a_file_system_without_hard_links_gets_new_files_too(root, monkeypatch):
    def refuse(*arguments, **more):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with FolderWriter(root) as writer:
        writer.write("docs/b.md", NEW, None)
    assert everything(root) == {"docs": "folder", "docs/a.md": OLD, "docs/b.md": NEW}


def test_a_write_in_pieces_is_whole_in_the_end(root, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    data = os.urandom(1000)
    with FolderWriter(root) as writer:
        writer.write("docs/a.md", data, sha(OLD))
    assert (root / "docs/a.md").read_bytes() == data


def test_a_disk_that_is_really_full_costs_nothing(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        write(place, "docs/a.md", OLD.decode())
        with FolderWriter(place) as writer:
            with pytest.raises(NotWritten, match="The disk is full"):
                writer.write("docs/a.md", b"x" * 100_000, sha(OLD))
            with pytest.raises(NotWritten, match="The disk is full"):
                writer.write("docs/new/b.md", b"x" * 100_000, None)
            assert (place / "docs/a.md").read_bytes() == OLD
            assert no_strays(place)
            writer.write("docs/a.md", NEW, sha(OLD))
        assert (place / "docs/a.md").read_bytes() == NEW
    finally:
        subprocess.run(["umount", str(place)], check=True)


def in_a_child(act, *, user: int | None = None) -> str:
    """What `act` returned in a forked child, as another user where this one is root."""
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            told = act()
        except BaseException as error:
            told = f"raised {error!r}"
        os.write(written, told.encode()[:4000])
        os._exit(0)
    os.close(written)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    return told


def refusal(root: Path, path: str, data: bytes, expected: str | None) -> str:
    try:
        with FolderWriter(root) as writer:
            writer.write(path, data, expected)
    except NotWritten as error:
        return f"{error.message} {error.mend}"
    return "written"


def test_a_limit_on_the_size_of_files_is_told_as_a_full_disk(root):
    def act() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return refusal(root, "docs/a.md", b"x" * 5000, sha(OLD))

    assert in_a_child(act).startswith("The disk is full.")
    assert everything(root) == {"docs": "folder", "docs/a.md": OLD}


def test_what_this_user_may_not_write_is_told_with_what_to_do():
    # Not below pytest's own folder: another user could not enter.
    root = Path(tempfile.mkdtemp())
    try:
        for path in ("docs/a.md", "closed/a.md"):
            write(root, path, OLD.decode())
        for one in [root, *root.rglob("*")]:
            os.chown(one, 65534, 65534)
            one.chmod(0o755 if one.is_dir() else 0o644)
        (root / "docs/a.md").chmod(0o444)
        (root / "closed").chmod(0o555)
        root.chmod(0o555)

        def told(path: str, expected: str | None) -> str:
            return in_a_child(lambda: refusal(root, path, NEW, expected), user=65534)

        assert told("docs/a.md", sha(OLD)) == "The file is read-only. Make it writable, then export again."
        for path, expected in (("closed/a.md", sha(OLD)), ("closed/b.md", None), ("fresh/b.md", None)):
            assert told(path, expected) == (
                "The folder may not be written to. Let this user write there, then export again."
            )
        assert told("docs/b.md", None) == "written"
    finally:
        shutil.rmtree(root)


# ── permissions ──


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o664, 0o755, 0o640, 0o666])
def test_the_permissions_of_a_file_stay_whatever_the_umask_is(root, mode):
    (root / "docs/a.md").chmod(mode)

    def act() -> str:
        os.umask(0o077)
        return refusal(root, "docs/a.md", NEW, sha(OLD))

    assert in_a_child(act) == "written"
    assert stat.S_IMODE((root / "docs/a.md").stat().st_mode) == mode


@pytest.mark.parametrize("umask, file, place", [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)])
def test_new_files_and_folders_are_what_the_umask_makes_of_them(root, umask, file, place):
    def act() -> str:
        os.umask(umask)
        return refusal(root, "docs/new/deep/b.md", NEW, None)

    assert in_a_child(act) == "written"
    assert stat.S_IMODE((root / "docs/new/deep/b.md").stat().st_mode) == file
    for one in ("docs/new", "docs/new/deep"):
        assert stat.S_IMODE((root / one).stat().st_mode) == place


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes files of other users")
def test_a_file_that_root_writes_stays_its_owners(root):
    os.chown(root / "docs/a.md", 1234, 2345)
    (root / "docs/a.md").chmod(0o640)
    assert refusal(root, "docs/a.md", NEW, sha(OLD)) == "written"
    told = (root / "docs/a.md").stat()
    assert (told.st_uid, told.st_gid, stat.S_IMODE(told.st_mode)) == (1234, 2345, 0o640)


def test_what_a_killed_process_left_is_swept_and_nothing_that_only_looks_like_it(root):
    stale, fresh = f"docs/{MARK}{'0' * 16}", f"docs/{MARK}{'1' * 16}"
    kept = [fresh, f"docs/{MARK}notes.md", f"docs/{MARK}{'2' * 16}.md", "docs/.bmad-core", f"docs/{MARK}{'A' * 16}"]
    for path in (stale, *kept):
        write(root, path, "left\n")
        os.utime(root / path, (0, 0) if path != fresh else None)
    (root / f"docs/{MARK}{'3' * 16}").symlink_to("a.md")
    with FolderWriter(root) as writer:
        writer.write("docs/a.md", NEW, sha(OLD))
    assert not (root / stale).exists()
    assert all((root / path).exists() for path in kept)
    assert (root / f"docs/{MARK}{'3' * 16}").is_symlink()


# ── what a model records ──

DOCUMENTS = [
    "../x.md",
    "/etc/x.md",
    "docs/../../x.md",
    "docs/../x.md",
    "docs/./x.md",
    "docs//x.md",
    "docs\\..\\..\\x.md",
    "docs/..\\..\\x.md",
    "docs/a\\b.md",
    "C:/docs/x.md",
    "C:\\x.md",
    "docs/a\nb.md",
    "docs/\u202egnp.md",
    "docs/\u200bx.md",
    "docs/" + "x" * 300 + ".md",
    ".git/hooks/post-commit",
    ".git/x.md",
    ".GIT/config",
    "docs/.git/x.md",
    ".claude/commands/x.md",
    ".Claude/commands/x.md",
    ".cursor/rules/x.md",
    ".github/copilot-instructions.md",
    "CLAUDE.md",
    "docs/CLAUDE.md",
    "docs/claude.local.md",
    "docs/agents.MD",
    "docs/deep/SKILL.md",
    "docs/\u017fkill.md",
    "docs/.hidden.md",
    "docs/.hidden/x.md",
    "docs/node_modules/x.md",
    "docs/CON.md",
    "docs/nul.txt",
    "docs/com1.md",
    "docs/lpt9/x.md",
    "docs/what?.md",
    "docs/a:b.md",
    "docs/trailing./x.md",
    "docs/x.sh",
    "docs/x.md.py",
    "docs/x.html",
    "docs",
    "README.md",
    "src/x.md",
    "package.json",
    "docs/architecture.md/x.md",
]


async def recorded(opened, paths, content="never written\n", first=9000):
    """Documents in the database as if a tool had recorded them; a path that the tool would refuse is put there too."""
    for number, path in enumerate(paths, start=first):
        await change(
            opened,
            "INSERT INTO bmad_artifacts (project_id, number, kind, title, path, content, content_hash)"
            " VALUES (bmad_project(), $1, 'note', 'a note', $2, $3, $4)",
            number,
            path,
            content,
            sha(content.encode()),
        )


async def test_a_document_is_written_among_documents_or_not_at_all(folder, outside, opened):
    await import_folder(opened, folder)
    for number, path in enumerate([*DOCUMENTS, "docs/fine.md", "docs/notes/ünï — ok (2).md"], start=9000):
        await recorded(opened, [path], f"document {number}\n", first=number)
    before = everything(folder.parent)
    report = await export_folder(opened, folder)
    after = everything(folder.parent)
    assert {path for path in after if after[path] != before.get(path)} == {
        "shop/docs/fine.md",
        "shop/docs/notes",
        "shop/docs/notes/ünï — ok (2).md",
    }
    assert before.keys() <= after.keys()
    told = {one.rpartition(" (A-")[0] for one in report.unwritten} | {one.path for one in report.refused}
    assert told | {one.key for one in report.conflicts} == set(DOCUMENTS)
    shown = report.render()
    assert "\u202e" not in shown
    assert "a\nb.md" not in shown
    assert (await export_folder(opened, folder)).files == ()


async def test_a_dry_run_promises_nothing_that_the_export_then_refuses(folder, opened):
    await import_folder(opened, folder)
    await recorded(opened, ["docs/a\\b.md", "docs/\u202egnp.md", "docs/" + "x" * 300 + ".md", "docs/fine.md"])
    planned = await export_folder(opened, folder, dry_run=True)
    done = await export_folder(opened, folder)
    assert [one.path for one in planned.files] == [one.path for one in done.files] == ["docs/fine.md"]


async def test_a_document_does_not_take_the_file_of_a_story_or_an_agent(folder, opened, run):
    write(folder, ".bmad-core/agents/dev.md", "# dev\n\n```yaml\nagent:\n  id: dev\n  name: James\n```\n")
    await import_folder(opened, folder)
    before = bytes_of(folder)
    paths = [STORY_23, ".bmad-core/agents/dev.md", "docs/qa/gates/1.1-sign-up.yml"]
    for path in paths:
        with pytest.raises(BmadError, match="is not replaced here"):
            await run("artifact_record", kind="note", path=path, content="mine\n")
    # As if an older version had let them in.
    for path in paths:
        await change(
            opened,
            "UPDATE bmad_artifacts SET content = 'mine', content_hash = $2, source = 'tool', file_hash = content_hash"
            " WHERE path = $1 AND project_id = bmad_project()",
            path,
            sha(b"mine"),
        )
    report = await export_folder(opened, folder)
    assert bytes_of(folder) == before
    assert {one.key for one in report.conflicts} == set(paths)


async def test_a_story_whose_file_a_document_takes_is_told_and_both_are_kept(folder, opened, run):
    await import_folder(opened, folder)
    await run("story_create", epic="2", title="Gift wrap")
    await recorded(opened, ["docs/stories/2.5.gift-wrap.md"], "a document\n")
    report = await export_folder(opened, folder)
    assert (folder / "docs/stories/2.5.gift-wrap.md").read_text() == "a document\n"
    assert [(one.key, one.field) for one in report.conflicts] == [("2.5", "file")]
    assert (await story(opened, "2.5"))["title"] == "Gift wrap"


TITLES = [
    "../../etc/passwd",
    "/abs/olute",
    "....",
    "..",
    ".git/hooks/post-commit",
    "CLAUDE.md",
    "\\..\\..\\x",
    "C:\\x",
    "😀😀",
    "💥" * 60,
    "é" * 290,
    "x" * 290,
    "'; rm -rf / #",
    "$(touch owned)",
    "{{placeholder}}",
    "con",
    "--help",
    "a\u202eb",
    "名前" * 100,
    "## Status\\n\\nDone",
    "<!-- x",
    "```",
    "3-steps",
]


@pytest.mark.parametrize("kind", ["v4", "v6"])
async def test_hostile_titles_become_plain_names_and_come_back_as_they_were(tmp_path, outside, opened, run, kind):
    folder = (add_v4_docs if kind == "v4" else add_v6_docs)(tmp_path / "shop")
    await import_folder(opened, folder)
    titles = {}
    for title in TITLES:
        epic = (await run("epic_create", title=title)).epic.key
        titles[(await run("story_create", epic=epic, title=title)).story.key] = title
        await run("gate_record", story=f"{epic}.1", gate="FAIL", reason=title)
    await run("checklist_run", checklist="story-dod", subject="../../x", results=[{"item": "1", "mark": "pass"}])
    rows = {key: (await story(opened, key))["title"] for key in titles}
    before = everything(tmp_path)
    report = await export_folder(opened, folder)
    after = everything(tmp_path)
    fresh = after.keys() - before.keys()
    assert all(path.startswith("shop/") for path in fresh)
    assert not [path for path in fresh if any(part.startswith(".") for part in path.split("/"))]
    assert not [path for path in fresh if not path.isprintable() or len(path.rpartition("/")[2].encode()) > 255]
    assert not report.refused, report.render()
    again = await import_folder(opened, folder)
    assert {key: (await story(opened, key))["title"] for key in titles} == rows
    assert (again.conflicts, [one.code for one in again.deviations if one.code == "reader-fault"]) == ((), [])
    assert (await export_folder(opened, folder)).files == ()


async def test_a_configuration_that_leads_out_leaves_the_usual_places(tmp_path, outside, opened, run):
    folder = tmp_path / "shop"
    await run("epic_create", title="Shop")
    await run("story_create", epic="1", title="Open")
    await run("gate_record", story="1.1", gate="PASS", reason="Fine")
    told = []
    for place in (
        "../outside",
        str(outside),
        "docs/../../outside",
        "~/x",
        "C:\\x",
        ".git/hooks",
        ".claude/commands",
        ".GitHub/workflows",
        "",
        "./docs//stories/",
    ):
        shutil.rmtree(folder, ignore_errors=True)
        for name in (".git/hooks", ".claude"):
            (folder / name).mkdir(parents=True)
        write(
            folder,
            ".bmad-core/core-config.yaml",
            f"devStoryLocation: '{place}'\nqa:\n  qaLocation: '{place}'\nprd:\n  prdShardedLocation: '{place}'\n",
        )
        report = await export_folder(opened, folder, dry_run=True)
        told.append({one.path.rpartition("/")[0] for one in report.files})
    usual = {"docs/stories", "docs/qa/gates", "docs/prd"}
    assert told[:-1] == [usual] * 9
    assert told[-1] == {"docs/stories", "docs/stories/gates"}
    await export_folder(opened, folder)
    assert (folder / "docs/stories/1.1.open.md").is_file()


@pytest.mark.parametrize(
    "place", ["../outside", "/tmp", "{project-root}/../outside", "{project-root}//tmp", ".git/hooks"]
)
async def test_a_v6_configuration_that_leads_out_leaves_the_usual_places(tmp_path, outside, opened, run, place):
    folder = tmp_path / "shop6"
    await run("epic_create", title="Shop")
    await run("story_create", epic="1", title="Open")
    write(
        folder,
        "_bmad/bmm/config.yaml",
        f"output_folder: '{place}'\nplanning_artifacts: '{place}/plan'\nimplementation_artifacts: '{place}/work'\n",
    )
    write(
        folder,
        TRACKER,
        f"story_location: '{place}'\nproject: x\ndevelopment_status:\n  epic-7: backlog\n",
    )
    before = everything(tmp_path)
    report = await export_folder(opened, folder)
    after = everything(tmp_path)
    assert report.files
    assert {path.split("/")[1] for path in after if after[path] != before.get(path)} <= {"_bmad-output", "tmp"}, after
    assert not (folder / ".git").exists()


# ── a folder that is not as it should be ──


def told_of(report, path: str) -> str:
    """What the report says of a file, and what to do; fails when it says nothing."""
    found = [f"{one.message} {one.mend}" for one in report.refused if one.path == path]
    found += [f"{one.file} {one.mend}" for one in report.conflicts if one.path == path]
    found += [one for one in (*report.gone, *report.newer) if path in one]
    assert found, report.render()
    return " ".join(found)


def swapped(path: Path, act) -> None:
    path.unlink()
    act(path)


SWAPS = {
    "a link to a file outside": lambda path: path.symlink_to(path.parents[3] / "outside" / "a.md"),
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "UTF-16": lambda path: path.write_bytes("# Story 2.3: Product page\n\nStatus: Approved\n".encode("utf-16")),
    "Latin-1": lambda path: path.write_bytes("# Story 2.3: Größe\n\nStatus: Approved\n".encode("latin-1")),
    "a NUL byte": lambda path: path.write_bytes(b"# Story 2.3: A\n\nStatus: Approved\n\0"),
    "100 MB": lambda path: (path.touch(), os.truncate(path, 100 << 20)),
    "one byte over the limit": lambda path: path.write_bytes(b"# Story\n" + b"x" * BYTE_LIMIT),
}


@pytest.mark.parametrize("what", SWAPS)
async def test_what_is_there_instead_of_a_story_stays_and_is_told(folder, outside, opened, run, what):
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    await move(run, "2.1", "done")
    swapped(folder / STORY_23, SWAPS[what])
    before = folder / STORY_23
    kept = (os.lstat(before).st_ino, os.lstat(before).st_mode, os.lstat(before).st_size)
    raw = before.read_bytes() if before.is_file() and not before.is_symlink() and kept[2] < BYTE_LIMIT else b""
    report = await export_folder(opened, folder)
    assert (os.lstat(before).st_ino, os.lstat(before).st_mode, os.lstat(before).st_size) == kept
    assert not raw or before.read_bytes() == raw
    if what not in ("a folder", "a broken link"):
        (mend,) = [one.mend for one in (*report.refused, *report.conflicts) if one.path == STORY_23]
        assert mend.endswith(".")
        assert STORY_23 in report.render()
    assert told_of(report, STORY_23)
    assert (await story(opened, "2.3"))["status"] == "in_progress"
    assert "**Status**: Done" in (folder / "docs/stories/2.1.story.md").read_text(), "the other stories are written"
    await import_folder(opened, folder)
    assert (await story(opened, "2.3"))["status"] == "in_progress"


async def test_a_link_that_appears_between_planning_and_writing_is_not_followed(
    folder, outside, opened, run, monkeypatch
):
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    await move(run, "2.1", "done")
    await run("story_create", epic="2", title="Gift wrap")
    real = exporting._write

    def write_late(place, plan):
        (folder / STORY_23).unlink()
        (folder / STORY_23).symlink_to(outside / "a.md")
        shutil.rmtree(folder / "docs/prd")
        (folder / "docs/prd").symlink_to(outside, target_is_directory=True)
        return real(place, plan)

    monkeypatch.setattr(exporting, "_write", write_late)
    report = await export_folder(opened, folder)
    refused = {one.path: one.mend for one in report.refused}
    assert refused.keys() == {STORY_23, "docs/prd/epic-2-catalogue.md"}
    assert set(refused.values()) == {"Put a plain folder in its place."}
    assert "**Status**: Done" in (folder / "docs/stories/2.1.story.md").read_text()
    assert "Not written: 2." in report.render()
    kept = await fetch(opened, "SELECT settings->'files'->'conflict_count' AS count FROM bmad_projects")
    assert kept[0]["count"] == 2, "everybody who asks how the project is hears of it"


async def test_an_edit_between_planning_and_writing_is_kept_and_the_next_round_brings_both(
    folder, opened, run, monkeypatch
):
    await import_folder(opened, folder)
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "File List", "- database.py")
    await move(run, "2.3", "in_progress")
    real, path = exporting._write, folder / STORY_22

    def write_late(place, plan):
        path.write_text(path.read_text().replace("The service lives in `src/shop`.", "It lives in `src/search`."))
        return real(place, plan)

    monkeypatch.setattr(exporting, "_write", write_late)
    report = await export_folder(opened, folder)
    monkeypatch.undo()
    assert [one.path for one in report.refused] == [STORY_22]
    assert [one.path for one in report.files] == [STORY_23]
    assert "src/search" in path.read_text()
    assert "database.py" not in path.read_text()
    again = await import_folder(opened, folder)
    assert not again.conflicts
    await export_folder(opened, folder)
    assert "src/search" in path.read_text()
    assert "database.py" in path.read_text()
    held = str((await story(opened, "2.2"))["sections"])
    assert "src/search" in held
    assert "database.py" in held


async def test_an_edit_right_after_the_writing_is_not_taken_for_what_was_written(folder, opened, run, monkeypatch):
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    real, path = exporting._write, folder / STORY_23

    def edit_after(place, plan):
        refused = real(place, plan)
        assert "InProgress" in path.read_text()
        path.write_text(path.read_text().replace("InProgress", "Ready for Review"))
        return refused

    monkeypatch.setattr(exporting, "_write", edit_after)
    await export_folder(opened, folder)
    monkeypatch.undo()
    assert not (await import_folder(opened, folder)).conflicts
    assert (await story(opened, "2.3"))["status"] == "review"
    assert "Ready for Review" in path.read_text()


async def test_a_full_disk_is_told_and_the_next_export_writes_the_rest(folder, opened, run, monkeypatch):
    await import_folder(opened, folder)
    await move(run, "2.1", "done")
    await move(run, "2.3", "in_progress")
    before, real, written = bytes_of(folder), os.write, []

    def refuse(descriptor, data):
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder)):
            return real(descriptor, data)
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(data))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", refuse)
    report = await export_folder(opened, folder)
    monkeypatch.undo()
    assert len(report.files) == len(report.refused) == 1
    assert report.refused[0].message == "The disk is full."
    assert "export again" in report.render()
    assert diff(before, bytes_of(folder)).keys() == {report.files[0].path}
    again = await export_folder(opened, folder)
    assert [one.path for one in again.files] == [report.refused[0].path]
    assert (await import_folder(opened, folder)).changes == 0


async def test_a_read_only_file_is_told_and_left(folder, opened, run):
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    (folder / STORY_23).chmod(0o444)
    before = bytes_of(folder)
    report = await export_folder(opened, folder)
    assert told_of(report, STORY_23) == "The file is read-only. Make it writable, then export again."
    assert bytes_of(folder) == before
    (folder / STORY_23).chmod(0o644)
    await export_folder(opened, folder)
    assert "Status: InProgress" in (folder / STORY_23).read_text()


# ── trackers that cannot be edited ──

LINE = "  2-3-product-page: ready-for-dev\n"
TRACKERS = {
    "an alias bomb": lambda text: "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n" + text,
    "an anchor that is used": lambda text: text.replace(LINE, "  2-3-product-page: &s ready-for-dev\n  2-9-x: *s\n"),
    "a tag": lambda text: text.replace(LINE, "  2-3-product-page: !!python/object/apply:os.system [ls]\n"),
    "a plain tag": lambda text: text.replace(LINE, "  2-3-product-page: !!str ready-for-dev\n"),
    "tabs": lambda text: text.replace(LINE, LINE.replace("  ", "\t", 1)),
    "a merge": lambda text: text.replace(LINE, f"<<<<<<< HEAD\n{LINE}=======\n{LINE}>>>>>>> other\n"),
    "flow style": lambda text: (
        text.split("development_status:")[0]
        + "development_status: {2-1-show-products: review, 2-3-product-page: ready-for-dev}\n"
    ),
    "flow style on many lines": lambda text: (
        text.split("development_status:")[0] + "development_status: {\n  2-3-product-page:\n    ready-for-dev }\n"
    ),
    "a value of several lines": lambda text: text.replace(LINE, "  2-3-product-page: >-\n    ready-for-dev\n"),
    "a key in question marks": lambda text: text.replace(LINE, "  ? 2-3-product-page\n  : ready-for-dev\n"),
    "nothing": lambda text: "",
    "UTF-16": lambda text: None,
}


@pytest.mark.parametrize("what", TRACKERS)
async def test_a_tracker_that_cannot_be_edited_is_left_and_told_and_the_story_is_written(v6_folder, opened, run, what):
    path = v6_folder / TRACKER
    await import_folder(opened, v6_folder)
    text = TRACKERS[what](path.read_text())
    raw = text.encode() if text is not None else path.read_text().encode("utf-16")
    path.write_bytes(raw)
    await import_folder(opened, v6_folder)
    await move(run, "2.3", *(["ready"] if (await story(opened, "2.3"))["status"] == "draft" else []), "in_progress")
    report = await export_folder(opened, v6_folder)
    own = f"{BUILDING}/2-3-product-page.md"
    edited = path.read_bytes()
    if edited == raw:
        assert what in ("nothing", "UTF-16") or told_of(report, TRACKER), report.render()
    else:
        # A form that can be edited after all: then every other byte of it stays.
        stamps = (b"ready-for-dev", b"in-progress", b"last_updated")
        kept = [[one for one in text.split(b"\n") if not any(word in one for word in stamps)] for text in (raw, edited)]
        assert kept[0] == kept[1]
    assert "Status: in-progress" in (v6_folder / own).read_text()
    again = await import_folder(opened, v6_folder)
    assert (await story(opened, "2.3"))["status"] == "in_progress", again.render()
    assert path.read_bytes() == edited


async def test_of_a_key_that_a_tracker_has_twice_the_one_that_counts_is_set(v6_folder, opened, run):
    path = v6_folder / TRACKER
    line = "  3-1-fill-a-basket: backlog\n"
    path.write_text(path.read_text().replace(line, line + line.replace("backlog", "in-progress")))
    await import_folder(opened, v6_folder)
    assert (await story(opened, "3.1"))["status"] == "in_progress"
    await move(run, "3.1", "review")
    await export_folder(opened, v6_folder)
    assert line + line.replace("backlog", "review") in path.read_text()
    assert (await import_folder(opened, v6_folder)).changes == 0


# ── killed in the middle ──

STORIES = 200


def many_stories(folder: Path) -> Path:
    for number in range(1, STORIES + 1):
        write(
            folder,
            f"docs/stories/1.{number}.thing-{number}.md",
            f"# Story 1.{number}: Thing {number}\n\n## Status\n\nApproved\n\n## Dev Notes\n\n{'note ' * 40}\n",
        )
    return folder


async def test_a_process_that_is_killed_in_the_middle_leaves_each_file_old_or_new(tmp_path, opened, run, pool):
    folder = many_stories(tmp_path / "shop")
    await import_folder(opened, folder)
    await change(opened, "UPDATE bmad_stories SET status = 'in_progress', version = version + 1")
    old = bytes_of(folder)
    new = {path: text.replace(b"Approved", b"InProgress") for path, text in old.items()}
    project = read_project(folder)
    held = await exporting.read_held(opened)
    wanted = exporting.wanted_rows(project, opened.id, "import")
    plan = exporting.plan_export(project, wanted, held, exporting.datetime.now())
    assert len(plan.changes) == STORIES
    paths = list(plan.changes)
    chance, cut = random.Random(7), set()
    for _ in range(20):
        for path, text in old.items():
            if (folder / path).read_bytes() != text:
                (folder / path).write_bytes(text)
        child = os.fork()
        if child == 0:
            exporting._write(folder, plan)
            os._exit(0)
        aim = chance.randrange(STORIES)
        # Wait for some of the files: how fast the disk is differs from machine to machine.
        while (folder / paths[aim]).read_bytes() == old[paths[aim]] and os.waitpid(child, os.WNOHANG)[0] == 0:
            time.sleep(chance.random() * 0.002)
        try_kill(child)
        now = {path: (folder / path).read_bytes() for path in old}
        assert all(now[path] in (old[path], new[path]) for path in old)
        cut.add(sum(now[path] == new[path] for path in old))
    assert len(cut) > 5, "it was killed at different places"
    assert any(0 < one < STORIES for one in cut)
    # What the process of the writing held on to stays behind, and nobody takes it for a file of the project.
    write(folder, f"docs/stories/{MARK}{'0' * 16}", "# Story 1.1: Half a te")
    os.utime(folder / f"docs/stories/{MARK}{'0' * 16}", (0, 0))
    again = await import_folder(opened, folder)
    assert not again.conflicts
    assert not [one for one in read_project(folder).files if MARK in one.path]
    report = await export_folder(opened, folder)
    assert not report.refused
    assert bytes_of(folder) == new | {path: raw for path, raw in bytes_of(folder).items() if MARK in path}
    rows = await fetch(opened, "SELECT DISTINCT status::text FROM bmad_stories")
    assert [one["status"] for one in rows] == ["in_progress"]
    assert (await import_folder(opened, folder)).changes == 0
    assert not (folder / f"docs/stories/{MARK}{'0' * 16}").exists() or not report.files


def try_kill(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


# ── the little things of texts ──


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n", "\r\n"])
async def test_the_end_of_a_file_stays_as_it_is(folder, opened, run, ending):
    path = folder / STORY_23
    line = "\r\n" if ending == "\r\n" else "\n"
    text = path.read_text().rstrip("\n").replace("\n", line) + ending
    path.write_bytes(text.encode())
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    await export_folder(opened, folder)
    assert path.read_bytes() == text.replace("Status: Approved", "Status: InProgress").encode()


async def test_a_byte_order_mark_and_crlf_stay(folder, opened, run):
    path = folder / STORY_23
    raw = b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(raw)
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    await export_folder(opened, folder)
    assert path.read_bytes() == raw.replace(b"Status: Approved", b"Status: InProgress")


async def test_a_file_in_the_middle_of_a_merge_keeps_both_sides(folder, opened, run):
    await import_folder(opened, folder)
    path = folder / STORY_22
    merge = "<<<<<<< HEAD\nThe service lives in `src/shop`.\n=======\nIt lives in `src/search`.\n>>>>>>> other\n"
    path.write_text(path.read_text().replace("The service lives in `src/shop`.\n", merge))
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "File List", "- database.py")
    await export_folder(opened, folder)
    assert merge in path.read_text()


async def test_an_export_without_anything_to_say_touches_no_file(folder, opened, run):
    await import_folder(opened, folder)
    before = {one: one.stat().st_mtime_ns for one in folder.rglob("*")}
    rows = await dump(opened)
    await export_folder(opened, folder)
    assert {one: one.stat().st_mtime_ns for one in folder.rglob("*")} == before
    assert await dump(opened) == rows


async def test_a_second_project_in_the_same_folder_takes_nothing_from_the_first(folder, opened, run, pool):
    await import_folder(opened, folder)
    other = await new_project(pool)
    await recorded(other, ["docs/architecture.md", "docs/stories/2.3.story.md"], "of the other\n")
    before = bytes_of(folder)
    report = await export_folder(other, folder)
    assert bytes_of(folder) == before
    assert {one.key for one in report.conflicts} == {"docs/architecture.md", "docs/stories/2.3.story.md"}

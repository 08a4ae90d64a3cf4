"""Random edits of files while tools work: each import succeeds, and a second one right after it finds nothing to do."""

import random

import pytest
from bmad_installs import add_v4_docs, add_v6_docs
from stored_rows import dump, fetch

from bmad_mcp.bmad_files.importing import import_folder

BITS = (
    b"\x00",
    b"\xff",
    b"# ",
    b"## Status\n\nDone\n",
    b"- [x] ",
    b"- [ ] new\n",
    b"\r\n",
    b"---\n",
    b"```\n",
    b": ",
    b"Story 1.2",
    b"epic-99999999999999999999: done\n",
    b"  9-9-x: done\n",
    b"[",
    b"{",
    b"InProgress",
    b"## Dev Notes\n",
    b"## Testing\n\nx\n",
    b"As a x, I want y, so that z.",
)


def damage(chance, path):
    """Insert, remove, repeat or tick something in a file."""
    raw = bytearray(path.read_bytes())
    at = chance.randrange(len(raw) + 1)
    match chance.randrange(5):
        case 0 | 1:
            raw[at:at] = chance.choice(BITS)
        case 2:
            del raw[at : at + chance.randint(1, 60)]
        case 3:
            raw[at:at] = raw[max(0, at - 80) : at]
        case _:
            old, new = chance.choice([(b"[ ]", b"[x]"), (b"[x]", b"[ ]")])
            raw = raw.replace(old, new, 1)
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_done_to_the_files_an_import_settles_in_one_go(seed, tmp_path, workspace, run):
    chance = random.Random(seed)
    folder = add_v6_docs(add_v4_docs(tmp_path / "shop"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    completed = 0
    for _ in range(15):
        for path in chance.sample(files, 3):
            if path.exists():
                damage(chance, path)
        claim = await run("task_claim", agent="dev")
        if claim.task is not None and chance.random() < 0.7:
            await run("task_complete", task=claim.task.key, lease=claim.lease, summary="by a tool")
            completed += 1
        report = await import_folder(workspace.opened, folder)
        before = await dump(workspace.opened)
        again = await import_folder(workspace.opened, folder)
        assert (again.changes, again.conflicts) == (0, report.conflicts)
        assert await dump(workspace.opened) == before
    kept = await fetch(workspace.opened, "SELECT FROM bmad_tasks WHERE summary = 'by a tool' AND status = 'completed'")
    assert len(kept) == completed > 0

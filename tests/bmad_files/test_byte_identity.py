"""Import and export without a change between them leave every byte, whatever form the files have."""

import pytest
from bmad_installs import add_v4_docs, add_v6_docs
from stored_rows import dump
from test_export import bytes_of

from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.sync.reconciling import reconcile

MARK = b"\xef\xbb\xbf"
FORMS = {
    "CRLF": lambda raw: raw.replace(b"\n", b"\r\n"),
    "some CRLF": lambda raw: raw.replace(b"\n\n", b"\r\n\n"),
    "a byte order mark": lambda raw: MARK + raw,
    "a mark and CRLF": lambda raw: MARK + raw.replace(b"\n", b"\r\n"),
    "trailing spaces": lambda raw: raw.replace(b"\n", b"  \n"),
    "no last line end": lambda raw: raw.rstrip(b"\n"),
    "many last line ends": lambda raw: raw + b"\n\n\n",
    "tabs": lambda raw: raw.replace(b"\n  - [", b"\n\t- ["),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("add", [add_v4_docs, add_v6_docs], ids=["v4", "v6"])
async def test_nothing_is_written_where_nothing_changed(tmp_path, workspace, add, form):
    folder = add(tmp_path / "shop")
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(FORMS[form](path.read_bytes()))
    await stays_as_it_is(folder, workspace.opened)


async def stays_as_it_is(folder, opened):
    before = bytes_of(folder)
    taken = await import_folder(opened, folder)
    assert taken.counts["story"].created + taken.counts["story"].updated > 0
    rows = await dump(opened)
    report = await export_folder(opened, folder)
    assert (report.files, report.conflicts, report.newer, report.gone, report.refused) == ((), (), (), (), ())
    assert bytes_of(folder) == before
    assert await dump(opened) == rows
    done = await reconcile(opened, folder)
    assert (done.taken_in, done.settled, done.conflicts) == (0, (), ())
    # A sync sets what the tracker of these projects is behind with, and nothing else.
    assert {one.path.rpartition("/")[2] for one in done.written} <= {"sprint-status.yaml"}

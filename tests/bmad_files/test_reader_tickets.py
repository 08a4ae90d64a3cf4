"""Tickets of v7: read into epics and stories with keys of their own, and never written."""

import pytest
from bmad_installs import add_v6_docs, v6_story_text, write
from stored_rows import change, fetch

from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.statuses import story_status

HOME = "initiative-shop"
BUILDING = "_bmad-output/implementation-artifacts"
MADE = '[[entry]]\nid = 2\ntitle = "B"\ndescription = "Do b."\nverify = "It is b."\n'


def codes(project) -> list[str]:
    return [one.code for one in project.deviations]


def stories(project):
    return {one.key: one for one in project.stories}


@pytest.mark.parametrize(
    "word, status",
    [
        ("draft", "draft"),
        ("ready-for-dev", "ready"),
        ("in-progress", "in_progress"),
        ("in-review", "review"),
        ("built", "review"),
        ("done", "done"),
        ("blocked", "in_progress"),
        ("dropped", "cancelled"),
    ],
)
def test_the_words_of_v7_are_understood_and_come_from_the_plan(tmp_path, word, status):
    write(tmp_path, f"{HOME}/epic-a/tickets.toml", MADE)
    write(tmp_path, f"{HOME}/epic-a/story-b.md", "---\nid: 2\ntype: story\nstatus: draft\n---\n\n# B\n")
    write(tmp_path, f"{HOME}/epic-a/story-b-plan.md", f"---\nticket: '2'\nstatus: {word}\n---\n\n# Plan\n")
    (story,) = read_project(tmp_path).stories
    assert (story.raw_status, story.status_form) == (word, "front matter")
    assert story_status(word) == (status, True)


def test_an_epic_and_its_tickets_become_an_epic_and_stories(tmp_path):
    write(tmp_path, f"{HOME}/tickets.toml", '[[epic]]\nid = 5\nslug = "epic-a"\ntitle = "All of a"\n')
    write(tmp_path, f"{HOME}/epic-a/epic-a.md", "---\ntype: epic\n---\n\n# A\n\n## Outcome\n\nIt sells.\n")
    write(tmp_path, f"{HOME}/epic-a/tickets.toml", MADE)
    project = read_project(tmp_path)
    assert project.generations == ("v7",)
    (epic,), (story,) = project.epics, project.stories
    assert (epic.key, epic.title, epic.goal, epic.generation) == ("5", "All of a", "It sells.", "v7")
    assert (story.key, story.title, story.generation, story.path) == ("5.2", "B", "v7", None)
    assert (story.acceptance, [one.text for one in story.sections]) == (("It is b.",), ["Do b."])
    assert (story.extra["tickets"], story.extra["ticket"]) == (f"{HOME}/epic-a/tickets.toml", 2)
    assert codes(project) == ["v7-tickets"]
    assert "preview" in project.deviations[0].message


def test_a_new_ticket_between_two_others_changes_no_key(tmp_path):
    path = f"{HOME}/epic-a/tickets.toml"
    write(tmp_path, path, '[[entry]]\nid = 1\ntitle = "A"\n[[entry]]\nid = 2\ntitle = "B"\n')
    before = {one.title: one.key for one in read_project(tmp_path).stories}
    write(
        tmp_path,
        path,
        '[[entry]]\nid = 7\ntitle = "C"\n[[entry]]\nid = 2\ntitle = "B"\n[[entry]]\nid = 1\ntitle = "A"\n',
    )
    after = {one.title: one.key for one in read_project(tmp_path).stories}
    assert after == {**before, "C": "1.7"}


def test_keys_never_meet_those_of_other_generations(tmp_path):
    add_v6_docs(tmp_path)
    before = stories(read_project(tmp_path))
    write(tmp_path, f"{HOME}/tickets.toml", '[[epic]]\nid = 1\ntitle = "A"\n[[epic]]\nid = 9\ntitle = "Z"\n')
    for epic in "az":
        write(tmp_path, f"{HOME}/epic-{epic}/tickets.toml", '[[entry]]\nid = 1\ntitle = "New"\n')
    after = stories(read_project(tmp_path))
    assert set(after) - set(before) == {"9.1", "10.1"}
    assert {key: after[key] for key in before} == before


def test_a_ticket_that_came_from_v6_is_that_story(tmp_path):
    write(tmp_path, f"{BUILDING}/3-4-pay.md", v6_story_text("3.4", "Pay", "review"))
    write(
        tmp_path,
        f"{HOME}/epic-a/tickets.toml",
        '[[entry]]\nid = 1\ntitle = "Pay now"\nv6_key = "3-4-pay"\n[[entry]]\nid = 2\ntitle = "Own"\nv6_key = "3-9-own"\n'
        '[[entry]]\nid = 4\ntitle = "New"\nafter = ["1", 2]\n',
    )
    project = read_project(tmp_path)
    found = stories(project)
    assert {key: (one.title, one.generation) for key, one in found.items()} == {
        "3.4": ("Pay", "project"),
        "3.9": ("Own", "v7"),
        # Number 4 is the other story's.
        "3.10": ("New", "v7"),
    }
    assert found["3.4"].extra["ticket"] == 1
    assert found["3.10"].extra["after_keys"] == ["3.4", "3.9"]
    assert [code for code in codes(project) if code != "v7-tickets"] == ["ticket-known"]


def test_odd_tickets_get_numbers_and_a_word(tmp_path):
    write(
        tmp_path,
        f"{HOME}/epic-a/tickets.toml",
        '[[entry]]\nid = 1\ntitle = "A"\n[[entry]]\nid = 1\ntitle = "Twin"\n[[entry]]\ntitle = "Nobody"\n'
        '[[entry]]\nid = "x"\nafter = ["epic-z", "8.8"]\n[[entry]]\nid = true\ntitle = 3\n',
    )
    project = read_project(tmp_path)
    assert {one.key: one.title for one in project.stories} == {
        "1.1": "A",
        "1.2": "Twin",
        "1.3": "Nobody",
        "1.4": "Story 1.4",
        "1.5": "3",
    }
    assert codes(project) == [*["ticket-id"] * 3, *["ticket-after"] * 2, "v7-tickets"]


def test_tickets_of_an_initiative_without_epics_and_in_the_output_folder_are_read(tmp_path):
    write(tmp_path, "_bmad-output/initiative-one/tickets.toml", MADE)
    write(tmp_path, "docs/initiative-two/epic-b/tickets.toml", MADE)
    project = read_project(tmp_path)
    assert {one.key: one.title for one in project.epics} == {"1": "One", "2": "B"}
    assert [one.extra["tickets"] for one in project.stories] == [
        "_bmad-output/initiative-one/tickets.toml",
        "docs/initiative-two/epic-b/tickets.toml",
    ]


def test_broken_tickets_are_kept_and_told(tmp_path):
    write(tmp_path, f"{HOME}/epic-a/tickets.toml", "[[entry]\nid = 1\n")
    write(tmp_path, f"{HOME}/epic-b/tickets.toml", 'entry = 3\n[[epic]]\nid = []\ntitle = ["x"]\n')
    project = read_project(tmp_path)
    assert len(project.files) == 2
    assert project.stories == ()
    assert "toml" in codes(project)


async def test_tickets_are_imported_and_stay_as_they_are(tmp_path, workspace):
    folder = tmp_path / "shop"
    write(folder, f"{HOME}/epic-a/tickets.toml", MADE)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    await import_folder(workspace.opened, folder)
    (row,) = await fetch(workspace.opened, "SELECT key, status::text AS status, acceptance FROM bmad_stories")
    assert (row["key"], row["status"], row["acceptance"]) == ("1.2", "draft", ["It is b."])
    assert (await import_folder(workspace.opened, folder)).changes == 0
    await change(workspace.opened, "UPDATE bmad_stories SET status = 'done', version = version + 1")
    report = await export_folder(workspace.opened, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert report.as_json()

"""Files that are broken or meant to do harm: each is told, kept where it may be, and costs nothing but itself."""

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

import pytest
from bmad_installs import V4, add_v4_docs, installed, story_text, write

from bmad_mcp.bmad_files.deviations import Deviations
from bmad_mcp.bmad_files.folder import BYTE_LIMIT, FILE_LIMIT, Folder
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.yaml_guard import YamlRefused, load_yaml, parse_yaml

TRACKER = "_bmad-output/implementation-artifacts/sprint-status.yaml"
GATE = "docs/qa/gates/2.1-x.yml"
STORY = "docs/stories/9.1.a.md"


def told(project, code):
    return next(one for one in project.deviations if one.code == code)


def codes(project) -> list[str]:
    return [one.code for one in project.deviations]


@pytest.fixture
def shop(tmp_path) -> Path:
    """A sound project; whatever else is put into it must not cost it anything."""
    return add_v4_docs(tmp_path / "shop")


def sound(project) -> bool:
    return len([one for one in project.stories if one.key != "9.1"]) == 12 and "reader-fault" not in codes(project)


# ── YAML ──


BROKEN = [
    ("story: '2.1\ngate: PASS\n", "yaml", None),
    ("a: 1\n\tb: 2\n", "yaml", 2),
    ("story: '2.1'\nbase: &b {gate: PASS}\nmore: *b\n", "yaml-alias", 3),
    ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "yaml-alias", 2),
    ("story: '2.1'\na: " + "[" * 60 + "]" * 60 + "\n", "yaml-deep", 2),
    ("a:\n" + "".join(" " * depth + "b:\n" for depth in range(1, 60)), "yaml-deep", None),
    ("gate: PASS\ngate: FAIL\n", "yaml-repeated", 2),
    ("x: {a: 1, a: 2}\n", "yaml-repeated", 1),
    ("a: !!python/object/apply:os.system ['touch owned']\n", "yaml-tag", 1),
    ("a: !!binary aGk=\n", "yaml-tag", 1),
    ("? [1, 2]\n: 3\n", "yaml", 1),
    ("a: \x07\n", "yaml", None),
    ("x: " + "y" * (1024 * 1024 + 1), "yaml-large", None),
]


@pytest.mark.parametrize("text, code, line", BROKEN)
def test_yaml_that_is_refused_is_told_with_its_file_and_line_and_kept(shop, text, code, line):
    path = write(shop, GATE, text)
    project = read_project(shop)
    assert sound(project)
    deviation = told(project, code)
    assert deviation.path == GATE
    assert line is None or deviation.line == line
    assert deviation.message.startswith("The YAML cannot be read")
    assert deviation.mend
    assert next(one.raw for one in project.files if one.path == GATE) == path.read_bytes()
    assert not (Path.cwd() / "owned").exists()


def test_an_anchor_that_nobody_uses_is_no_fault():
    assert load_yaml("a: &x 1\n") == {"a": 1}


def test_broken_yaml_inside_an_agent_is_told_with_the_line_in_the_file(shop):
    write(shop, ".bmad-core/agents/dev.md", "# dev\n\ntext\n\n```yaml\nagent:\n  id: dev\n  id: qa\n```\n")
    project = read_project(shop)
    assert (told(project, "yaml-repeated").line, project.agents) == (8, ())


def test_broken_front_matter_costs_the_head_only(shop):
    write(shop, STORY, "---\ntitle: [\n---\n\n# Story 9.1: A\n\n## Status\n\nDone\n")
    project = read_project(shop)
    story = next(one for one in project.stories if one.key == "9.1")
    assert (story.title, story.raw_status) == ("A", "Done")
    assert told(project, "yaml").path == STORY


def test_broken_configurations_leave_the_usual_places(shop):
    write(shop, ".bmad-core/core-config.yaml", "devStoryLocation: [\n")
    write(shop, "_bmad/config.toml", "[core\n")
    write(shop, "_bmad/bmm/config.yaml", "a: *b\n")
    write(shop, "_bmad/custom/config.toml", "a = " + "[" * 3000)
    write(shop, "_bmad/_config/skill-manifest.csv", 'canonicalId\n"' + "x" * 200_000)
    project = read_project(shop)
    assert sound(project)
    assert {"yaml", "toml", "yaml-alias", "csv"} <= set(codes(project))
    assert told(project, "toml").line == 1


@pytest.mark.parametrize(
    "config",
    [
        "devStoryLocation: 7\nqa: docs\nprd: [1]\narchitecture: {architectureFile: {}}\n",
        "prd: {epicFilePattern: 3, prdFile: ''}\n",
        "prd: {epicFilePattern: '***{n}{n}***'}\n",
        "- a\n",
        "just words\n",
    ],
)
def test_a_configuration_of_another_shape_leaves_the_usual_places(shop, config):
    write(shop, ".bmad-core/core-config.yaml", config)
    assert sound(read_project(shop))


@pytest.mark.parametrize("place", ["../../etc", "/etc", "~/x", "docs/../../x", "C:\\x", "x" * 2000])
def test_a_place_outside_the_folder_is_refused(shop, place):
    write(shop, ".bmad-core/core-config.yaml", f"devStoryLocation: '{place}'\n")
    write(shop, "_bmad/bmm/config.yaml", f"output_folder: '{place}'\n")
    project = read_project(shop)
    assert sound(project)
    assert codes(project).count("place-outside") == 2


def test_numbers_keep_their_zeros_and_dates_their_form():
    text = "a: 1.10\nb: 2026-10-05T10:00:00Z\nc: 7\nd: yes\ne: true\nf: ~\ng: 007\nh: 1:30\ni: '5'\nj: " + "9" * 5000
    value = load_yaml(text)
    assert value.pop("j") == "9" * 5000
    assert list(value.values()) == ["1.10", "2026-10-05T10:00:00Z", 7, "yes", True, None, "007", "1:30", "5"]


def test_the_first_of_several_documents_is_read():
    assert load_yaml("---\na: 1\n---\nb: 2\n") == {"a": 1}


def test_places_of_keys_are_those_in_the_text():
    loaded = parse_yaml("a: 'ünï😀' # c\nb:\n  c: |\n    x\n    y\n  d: [1]\n")
    assert loaded.places == {("a",): (1, 1, 9), ("b", "c"): (3, 6, 0), ("b", "d"): (6, 6, 3), ("b",): (2, 2, 1)}


@pytest.mark.parametrize("text", ["- " * 60_000, "{a: " * 60_000, "? " * 60_000, "[" * 1_000_000, "a: " * 300_000])
def test_yaml_that_is_meant_to_take_long_is_refused_at_once(text):
    begun = time.process_time()
    with pytest.raises(YamlRefused):
        load_yaml(text)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "text",
    [
        "# Story 9.1" + " " * 400_000 + "x\n",
        "Status" + " *" * 200_000 + "\n",
        "## Status\n\n" + "<!--" * 100_000 + "\n",
        "- [" * 200_000,
        "(AC" * 200_000,
        "## Tasks\n\n" + "- [ ] (AC" * 20_000 + "\n",
        "As a " * 200_000,
        "## Story\n\nAs a " + "I want " * 100_000 + "\n",
        "{{" * 300_000,
        "#" * 400_000,
        "## A\n" * 60_000,
        "```\n" * 100_000,
        "---\n" + "a: b\n" * 5 + "--" * 200_000,
    ],
)
@pytest.mark.parametrize("path", [STORY, "docs/prd.md", ".bmad-core/checklists/a.md", ".bmad-core/templates/a-tmpl.md"])
def test_text_that_is_meant_to_take_long_does_not(tmp_path, path, text):
    write(tmp_path, path, text)
    begun = time.process_time()
    project = read_project(tmp_path)
    assert time.process_time() - begun < 2
    assert "reader-fault" not in codes(project)


# ── bytes ──


@pytest.mark.parametrize(
    "raw, code, line",
    [
        ("# Story 9.1: Größe\n\n## Status\n\nDone\n".encode("latin-1"), "not-utf-8", 1),
        ("# Story 9.1: A\n".encode("utf-16"), "not-utf-8", None),
        ("# Story 9.1: A\n".encode("utf-16-be"), "nul", 1),
        (b"# Story 9.1: A\n\n\x00\n", "nul", 3),
        (b"# Story 9.1\n\xed\xa0\x80\n", "not-utf-8", 2),
    ],
)
@pytest.mark.parametrize("path", [STORY, TRACKER, GATE, ".bmad-core/agents/dev.md", "_bmad/config.toml"])
def test_bytes_that_are_no_text_are_told_and_kept(shop, path, raw, code, line):
    (shop / path).parent.mkdir(parents=True, exist_ok=True)
    (shop / path).write_bytes(raw)
    project = read_project(shop)
    assert sound(project)
    assert (told(project, code).path, told(project, code).line) == (path, line)
    kept = next(one for one in project.files if one.path == path)
    assert (kept.raw, kept.text) == (raw, None)


def test_escapes_that_cannot_be_stored_are_replaced_and_told(shop):
    write(shop, GATE, 'schema: 1\nstory: "2.1"\ngate: PASS\nstatus_reason: "a\\0b"\n')
    write(shop, "_bmad/config.toml", '[core]\nproject_name = "a\\u0000b"\n')
    project = read_project(shop)
    assert next(one for one in project.gates if one.story_key == "2.1").reason == "a\ufffdb"
    assert project.name == "a\ufffdb"
    assert codes(project).count("not-storable") == 2


def test_a_file_of_exactly_the_limit_is_read_and_one_byte_more_is_not(shop):
    for name, size in (("9.1.a", BYTE_LIMIT), ("9.2.b", BYTE_LIMIT + 1)):
        text = "# Story: A\n\n## Status\n\nDone\n\n## Notes\n\n"
        write(shop, f"docs/stories/{name}.md", text + "x" * (size - len(text)))
    project = read_project(shop)
    assert [one.key for one in project.stories][-1] == "9.1"
    assert told(project, "too-large").path == "docs/stories/9.2.b.md"


# ── what a folder may hold besides files ──


def test_links_out_of_the_folder_are_not_followed(shop, tmp_path):
    outside = tmp_path / "outside"
    write(outside, "9.1.a.md", "# Story 9.1: Secret\n")
    write(outside, "sprint-status.yaml", "development_status:\n  9-1-secret: done\n")
    (shop / STORY).symlink_to(outside / "9.1.a.md")
    (shop / "docs/stories/deep").symlink_to(outside, target_is_directory=True)
    (shop / "_bmad-output").symlink_to(outside, target_is_directory=True)
    (shop / "_bmad").symlink_to(outside, target_is_directory=True)
    (shop / ".bmad-core").symlink_to(outside, target_is_directory=True)
    (shop / ".claude").symlink_to(outside, target_is_directory=True)
    project = read_project(shop)
    assert sound(project)
    assert not [one for one in project.files if b"ecret" in one.raw]
    assert {one.path for one in project.deviations if one.code == "link-outside"} >= {STORY, "docs/stories/deep"}


def test_a_link_that_stays_inside_is_read_once_under_its_real_name(shop):
    (shop / "docs/stories").rename(shop / "docs/work")
    (shop / "docs/stories").symlink_to("work", target_is_directory=True)
    (shop / "docs/again").symlink_to(".", target_is_directory=True)
    (shop / "docs/broken.md").symlink_to("nowhere.md")
    (shop / "docs/loop.md").symlink_to("loop.md")
    project = read_project(shop)
    assert sound(project)
    assert {one.path.rpartition("/")[0] for one in project.stories} == {"docs/work"}
    assert len({one.path for one in project.files}) == len(project.files)
    assert codes(project).count("link-broken") == 2


def test_what_becomes_a_link_after_it_was_listed_is_not_followed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(root, "docs/a.md", "a")
    write(root, "docs/deep/b.md", "b")
    write(outside, "a.md", "secret")
    write(outside, "b.md", "secret")
    deviations = Deviations()
    folder = Folder(root, deviations)
    paths = list(folder.walk("docs"))
    (root / "docs/a.md").unlink()
    (root / "docs/a.md").symlink_to(outside / "a.md")
    shutil.rmtree(root / "docs/deep")
    (root / "docs/deep").symlink_to(outside, target_is_directory=True)
    assert [folder.read(path, "project", "document") for path in paths] == [None, None]
    folder.close()
    assert [one.code for one in deviations.all()] == ["unreadable", "unreadable"]


def test_pipes_sockets_and_folders_in_place_of_files_are_not_opened(shop):
    os.mkfifo(shop / STORY)
    (shop / "docs/stories/9.2.b.md").mkdir()
    os.mkfifo(shop / "_bmad-output")
    (shop / "docs/qa/gates/2.1-x.yml").mkdir()
    place = os.open(shop / "docs/stories", os.O_RDONLY)
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket is short; the folder's may be long.
        os.fchdir(place)
        listener.bind("9.3.c.md")
        os.chdir(here)
    os.close(place)
    project = read_project(shop)
    assert sound(project)
    assert codes(project).count("not-a-file") == 2


def test_what_may_not_be_read_is_told_and_the_rest_is_read():
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    is_root = os.geteuid() == 0
    try:
        add_v4_docs(root)
        write(root, STORY, "# Story 9.1: A\n").chmod(0)
        write(root, "docs/stories/closed/9.2.b.md", "# Story 9.2: B\n").parent.chmod(0)
        if is_root:
            os.seteuid(65534)
        project = read_project(root)
    finally:
        if is_root:
            os.seteuid(0)
        (root / "docs/stories/closed").chmod(0o700)
        shutil.rmtree(root)
    assert sound(project)
    assert {one.path for one in project.deviations if one.code == "unreadable"} == {STORY, "docs/stories/closed"}


def test_names_that_are_no_utf_8_or_hold_odd_characters_are_read(shop):
    with open(bytes(shop / "docs/stories") + b"/9.1.gr\xfcn.md", "wb") as file:
        file.write(b"# Story 9.1: A\n")
    write(shop, "docs/line\nbreak.md", "# A\n")
    project = read_project(shop)
    assert sound(project)
    assert os.fsencode(next(one.path for one in project.stories if one.key == "9.1")).endswith(b"gr\xfcn.md")
    assert "docs/line\nbreak.md" in {one.path for one in project.files}


@pytest.mark.parametrize("name", ["node_modules", ".git", "dist", "build", "__pycache__"])
def test_foreign_folders_are_left_out(shop, name):
    write(shop, f"docs/{name}/stories/9.9.a.md", "# Story 9.9: A\n")
    write(shop, f"_bmad-output/{name}/9-8-b.md", "# Story 9.8: B\n")
    write(shop, f"{name}/_bmad-output/implementation-artifacts/sprint-status.yaml", "development_status: {}\n")
    project = read_project(shop)
    assert sound(project)
    assert not [one for one in project.files if name in one.path]


def test_files_beyond_the_limit_are_told_once_and_not_read(shop):
    many = shop / "_bmad-output/research"
    many.mkdir(parents=True)
    for number in range(FILE_LIMIT + 50):
        (many / f"{number}.md").touch()
    project = read_project(shop)
    assert len(project.files) == FILE_LIMIT
    assert codes(project).count("too-many-files") == 1


def test_a_very_deep_folder_ends_the_walk_and_not_the_reading(shop):
    deep = shop / "docs"
    for _ in range(60):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "a.md").write_text("# A\n")
    assert sound(read_project(shop))


def test_nothing_that_was_found_is_run(tmp_path):
    root = installed(V4, tmp_path / "p")
    for name in ("conftest.py", "setup.py", "bmad_mcp.py", "yaml.py", "docs/stories/run.py", ".bmad-core/utils/run.py"):
        write(root, name, "raise SystemExit('run')\n")
    here = os.getcwd()
    os.chdir(root)
    try:
        project = read_project(Path("."))
    finally:
        os.chdir(here)
    assert len(project.agents) == 11
    assert not [one for one in project.files if one.path.endswith(".py")]


def test_one_broken_file_of_every_kind_costs_only_itself(tmp_path):
    root = add_v4_docs(installed(V4, tmp_path / "p"))
    for name in ("agents/pm.md", "workflows/greenfield-ui.yaml", "templates/prd-tmpl.yaml", "install-manifest.yaml"):
        write(root, f".bmad-core/{name}", "```yaml\na: [\n```\n")
    project = read_project(root)
    assert (len(project.agents), len(project.workflows), len(project.stories)) == (10, 5, 12)
    assert codes(project).count("yaml") == 4
    assert all(one.path and one.message and one.mend for one in project.deviations)


def test_a_story_of_five_megabytes_is_read_in_time(tmp_path):
    text = story_text("9.1", "A", "## Status\n\nDone\n", "xx")
    lines = "- [ ] a box (AC: 1)\n" * ((BYTE_LIMIT - len(text)) // 20 - 100)
    write(tmp_path, STORY, text.replace("## Dev Notes", f"{lines}\n## Dev Notes"))
    begun = time.process_time()
    (story,) = read_project(tmp_path).stories
    assert len(story.tasks) > 200_000
    assert time.process_time() - begun < 10

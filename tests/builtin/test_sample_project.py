"""The sample project: stories, epics, requirements and gates tell the same story."""

import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from bmad_mcp.sample import FOLDER

DOCS = FOLDER / "docs"
STORIES = sorted((DOCS / "stories").glob("*.md"))
GATES = sorted((DOCS / "qa" / "gates").glob("*.yml"))
SECTIONS = [
    "Status",
    "Story",
    "Acceptance Criteria",
    "Tasks / Subtasks",
    "Dev Notes",
    "Change Log",
    "Dev Agent Record",
    "QA Results",
]
STATUSES = {"Done": 5, "Review": 1, "InProgress": 1, "Approved": 2, "Draft": 3}
BOXES = {"Done": "x", "Review": "x", "InProgress": " x", "Approved": " ", "Draft": " "}
WISH = re.compile(r"\*\*As a\*\* (.+),\n\*\*I want\*\* (.+),\n\*\*so that\*\* (.+)\.")


def name_of(path: Path) -> str:
    return path.stem


def parts(path: Path) -> dict[str, str]:
    """The level-2 sections of a story by their titles."""
    _, *found = re.split(r"(?m)^## ", path.read_text(encoding="utf-8"))
    return {part.split("\n", 1)[0].strip(): part.split("\n", 1)[1].strip() for part in found}


def title(path: Path) -> tuple[str, str]:
    """(key, title) of the first heading."""
    match = re.match(r"# Story (\d+\.\d+): (.+)\n", path.read_text(encoding="utf-8"))
    assert match, path.name
    return match[1], match[2]


def numbered(text: str) -> list[str]:
    return re.findall(r"(?m)^\d+\. (.+)$", text)


def told_by_epics() -> dict[str, tuple[str, str, list[str]]]:
    """Story key → (title, wish, criteria) as the epics tell them."""
    found = {}
    for path in sorted((DOCS / "prd").glob("epic-*.md")):
        for part in re.split(r"(?m)^### Story ", path.read_text(encoding="utf-8"))[1:]:
            match = re.match(r"(\d+\.\d+): (.+)\n", part)
            assert match
            wish = WISH.search(part)
            assert wish
            found[match[1]] = (match[2], wish[0], numbered(part))
    return found


def gate(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def test_there_are_twelve_stories_in_three_epics_in_mixed_states() -> None:
    assert Counter(parts(path)["Status"] for path in STORIES) == STATUSES
    assert Counter(title(path)[0].split(".")[0] for path in STORIES) == {"1": 4, "2": 4, "3": 4}


@pytest.mark.parametrize("path", STORIES, ids=name_of)
def test_a_story_has_its_sections_in_order_and_its_key_in_its_name(path: Path) -> None:
    assert list(parts(path)) == SECTIONS
    assert path.name.startswith(f"{title(path)[0]}.")
    text = path.read_text(encoding="utf-8")
    for heading in ("Testing", "Agent Model Used", "Debug Log References", "Completion Notes List", "File List"):
        assert text.count(f"\n### {heading}\n") == 1


@pytest.mark.parametrize("path", STORIES, ids=name_of)
def test_a_story_says_what_its_epic_says(path: Path) -> None:
    found = parts(path)
    key, own_title = title(path)
    wish = WISH.search(found["Story"])
    assert wish
    assert told_by_epics()[key] == (own_title, wish[0], numbered(found["Acceptance Criteria"]))


@pytest.mark.parametrize("path", STORIES, ids=name_of)
def test_tasks_cover_all_criteria_and_their_boxes_fit_the_status(path: Path) -> None:
    found = parts(path)
    boxes = re.findall(r"(?m)^( *)- \[([ x])\] (.+)$", found["Tasks / Subtasks"])
    references = [re.search(r"\(AC: ([\d, ]+)\)$", text) for indent, _, text in boxes if not indent]
    assert all(references)
    covered = {int(number) for match in references if match for number in match[1].split(",")}
    assert covered == set(range(1, len(numbered(found["Acceptance Criteria"])) + 1))
    marks = {mark for _, mark, _ in boxes}
    assert "".join(sorted(marks)) == BOXES[found["Status"]]


@pytest.mark.parametrize("path", STORIES, ids=name_of)
def test_the_records_fit_the_status(path: Path) -> None:
    found = parts(path)
    started = found["Status"] in ("Done", "Review", "InProgress")
    assert ("- `" in found["Dev Agent Record"]) == started
    assert bool(found["QA Results"]) == (found["Status"] == "Done")
    dates = re.findall(r"(?m)^\| (\d{4}-\d\d-\d\d) \|", found["Change Log"])
    assert dates
    assert dates == sorted(dates)


def test_the_requirements_list_the_epics_and_each_requirement_is_covered_once() -> None:
    text = (DOCS / "prd.md").read_text(encoding="utf-8")
    index = (DOCS / "prd" / "index.md").read_text(encoding="utf-8")
    covered: list[str] = []
    for path in sorted((DOCS / "prd").glob("epic-*.md")):
        body = path.read_text(encoding="utf-8")
        assert re.match(rf"## Epic {path.name.split('-')[1]}: .+\n", body)
        assert f"./prd/{path.name}" in text
        assert f"./{path.name}" in index
        covered += re.findall(r"N?FR\d+", next(line for line in body.split("\n") if line.startswith("Covers ")))
    assert sorted(covered) == sorted(re.findall(r"(?m)^- (N?FR\d+):", text))


def test_exactly_the_finished_stories_have_a_gate() -> None:
    done = {path.stem.replace(".", "-", 2).replace("-", ".", 1) for path in STORIES if parts(path)["Status"] == "Done"}
    assert {path.stem for path in GATES} == done


@pytest.mark.parametrize("path", GATES, ids=name_of)
def test_a_gate_is_valid_and_belongs_to_its_story(path: Path) -> None:
    found = gate(path)
    story = next(one for one in STORIES if title(one)[0] == found["story"])
    assert (found["schema"], found["story_title"]) == (1, title(story)[1])
    assert path.name.startswith(f"{found['story']}-")
    assert found["gate"] in ("PASS", "WAIVED")
    assert found["status_reason"]
    assert found["reviewer"]
    assert datetime.fromisoformat(found["updated"]).tzinfo
    for issue in found["top_issues"]:
        assert set(issue) == {"id", "severity", "finding", "suggested_action"}
        assert re.fullmatch(r"(SEC|PERF|REL|TEST|MNT|ARCH|DOC|REQ)-\d{3}", issue["id"])
        assert issue["severity"] in ("low", "medium", "high")
    waiver = found["waiver"]
    assert waiver["active"] == (found["gate"] == "WAIVED")
    assert not waiver["active"] or (waiver["reason"] and waiver["approved_by"])
    assert f"Gate: {found['gate']} → docs/qa/gates/{path.name}" in parts(story)["QA Results"]


@pytest.mark.parametrize("path", GATES, ids=name_of)
def test_a_gate_follows_its_own_rules(path: Path) -> None:
    found = gate(path)
    story = next(one for one in STORIES if title(one)[0] == found["story"])
    verdicts = [attribute["status"] for attribute in found["nfr_validation"].values()]
    assert found["quality_score"] == 100 - 20 * verdicts.count("FAIL") - 10 * verdicts.count("CONCERNS")
    severe = {issue["severity"] for issue in found["top_issues"]} & {"medium", "high"}
    assert (found["gate"] == "PASS") == (not severe and set(verdicts) == {"PASS"})
    trace = found["evidence"]["trace"]
    criteria = len(numbered(parts(story)["Acceptance Criteria"]))
    assert sorted(trace["ac_covered"] + trace["ac_gaps"]) == list(range(1, criteria + 1))


def test_the_sample_brings_no_definitions_of_its_own() -> None:
    assert {path.name for path in FOLDER.iterdir()} - {"__pycache__"} == {"__init__.py", "docs"}

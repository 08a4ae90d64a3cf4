"""Running a checklist: marks come to a score and a gate, and every run is kept."""

import asyncio
import json

import pytest
from bmad_installs import V4, installed
from harness import new_project
from stored_rows import change, dump, fetch

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.call import Caller
from bmad_mcp.checklists.running import answered, outcome, spans
from bmad_mcp.checklists.schemas import ItemResult
from bmad_mcp.errors import BmadError, Conflict, Invalid, NotFound

ADD = """
INSERT INTO bmad_checklists (project_id, name, title, items, source) VALUES (bmad_project(), $1, $2, $3, 'import')
"""


def mark(item, mark="pass", **more):
    return {"item": item, "mark": mark, **more}


@pytest.fixture
async def ten(workspace):
    """A checklist of ten items."""
    items = [{"section": f"S{n // 5}", "text": f"Item  *{n}*", "mark": " "} for n in range(1, 11)]
    await change(workspace.opened, ADD, "ten", "Ten", items)


async def stored(workspace, name="ten"):
    sql = "SELECT runs, version FROM bmad_checklists WHERE project_id = bmad_project() AND name = $1"
    [row] = await fetch(workspace.opened, sql, name)
    return row["runs"]


@pytest.mark.parametrize(
    ("marks", "score", "gate"),
    [
        ("pppppppppp", 100, "pass"),
        ("pppppppppf", 90, "concerns"),
        ("ppppppppp~", 95, "pass"),
        ("pppppp~~~~", 80, "concerns"),
        ("ppppppffff", 60, "concerns"),
        ("pppppfffff", 50, "fail"),
        ("ffffffffff", 0, "fail"),
        ("p---------", 100, "pass"),
        ("ppf-------", 67, "concerns"),
        ("pff-------", 33, "fail"),
        ("pppppppp  ", 80, "concerns"),
        ("f         ", 0, "fail"),
        ("pp~-------", 83, "concerns"),
    ],
)
async def test_marks_come_to_a_score_and_a_gate(run, ten, marks, score, gate):
    words = {"p": "pass", "f": "fail", "~": "partial", "-": "na"}
    results = [mark(n, words[one]) for n, one in enumerate(marks, start=1) if one != " "]
    done = await run("checklist_run", checklist="ten", subject="story 1.2", results=results)
    assert (done.score, done.gate) == (score, gate)
    assert done.counts == {words[one]: marks.count(one) for one in words} | {"unanswered": marks.count(" ")}


@pytest.mark.parametrize(("passed", "score", "gate"), [(181, 91, "pass"), (180, 90, "concerns"), (119, 60, "concerns")])
def test_a_half_is_rounded_up_and_the_gate_goes_by_what_is_shown(passed, score, gate):
    answers = {n: ItemResult(item=n, mark="pass" if n <= passed else "fail") for n in range(1, 201)}
    assert (outcome(answers, 200).score, outcome(answers, 200).gate) == (score, gate)


async def test_an_answer_tells_what_is_not_met_and_no_more(run, ten):
    results = [mark("1-6"), mark(7, "fail", note="No test"), mark(8, "partial"), mark(9, "na")]
    done = await run("checklist_run", checklist="ten-checklist.md", subject=" story\n1.2 ", results=results)
    assert done.model_dump(exclude_unset=True) == {
        "checklist": "ten",
        "subject": "story 1.2",
        "gate": "concerns",
        "score": 72,
        "counts": {"pass": 6, "fail": 1, "partial": 1, "na": 1, "unanswered": 1},
        "failed": [{"item": 7, "text": "Item *7*", "note": "No test"}],
        "partial": [{"item": 8, "text": "Item *8*"}],
        "unanswered": [{"item": 10, "text": "Item *10*"}],
    }


async def test_a_run_is_stored_with_who_what_and_when(run, ten, workspace):
    await run("agent_activate", agent="qa")
    await run("checklist_run", checklist="ten", subject="T-4", results=[mark("1-9"), mark(10, "fail", note="why")])
    [one] = await stored(workspace)
    assert one.pop("at").endswith("Z")
    assert one == {
        "subject": "T-4",
        "agent": "qa",
        "principal": "local",
        "gate": "concerns",
        "score": 90,
        "counts": {"pass": 9, "fail": 1, "partial": 0, "na": 0, "unanswered": 0},
        "of": "",
        "results": [*(mark(n) for n in range(1, 10)), mark(10, "fail", note="why")],
    }
    [told] = await fetch(
        workspace.opened,
        "SELECT subject, agent, principal, detail FROM bmad_agent_activity WHERE operation = 'checklist_run'"
        " AND project_id = bmad_project()",
    )
    assert told == {
        "subject": "checklist ten",
        "agent": "qa",
        "principal": "local",
        "detail": {"subject": "T-4", "gate": "concerns", "score": 90},
    }
    latest = (await run("activity_list", limit=1)).items[0]
    assert (latest.subject, latest.note) == ("checklist ten", "T-4: concerns")


async def test_a_person_runs_a_checklist_too(run, ten, workspace):
    await run("checklist_run", checklist="ten", subject="x", results=[mark("1-10")], caller=Caller(principal="ann"))
    [one] = await stored(workspace)
    assert "agent" not in one
    assert one["principal"] == "ann"


async def test_the_last_runs_are_shown_in_brief(run, ten):
    assert (await run("checklist_list", cursor=None)).items[-1].last_run is None
    assert (await run("checklist_get", checklist="ten")).runs is None
    for n in range(7):
        await run("checklist_run", checklist="ten", subject=f"T-{n}", results=[mark(f"1-{n + 4}", note="n" * 99)])
    found = await run("checklist_get", checklist="ten")
    assert [(one.subject, one.score) for one in found.runs] == [(f"T-{n}", 10 * (n + 4)) for n in (6, 5, 4, 3, 2)]
    last = next(one.last_run for one in (await run("checklist_list")).items if one.name == "ten")
    told = json.loads(last.model_dump_json(exclude_unset=True))
    assert told.pop("at").endswith("Z")
    assert told == {"subject": "T-6", "gate": "pass", "score": 100}


async def test_an_item_is_named_by_number_range_or_text(run, workspace):
    items = [{"section": "", "text": text, "mark": " "} for text in ("Same", "Other one", "Same", "7", "3-4")]
    await change(workspace.opened, ADD, "own", "Own", items)

    async def marks(*given):
        await run("checklist_run", checklist="own", subject="x", results=[mark(one) for one in given])
        return [one["item"] for one in (await stored(workspace, "own"))[-1]["results"]]

    assert await marks(1, "2", "#3") == [1, 2, 3]
    assert await marks("1 - 3") == [1, 2, 3]
    assert await marks(" other\n ONE ", 5) == [2, 5]
    assert await marks("2. other one") == [2]
    # The text of an item goes before what it would mean as a number.
    assert await marks("7", "3-4", 3) == [3, 4, 5]
    with pytest.raises(Invalid, match=r"`results\.0\.item` is the text of items 1, 3 of own"):
        await marks("Same")


@pytest.mark.parametrize("item", [0, -1, 11, 10**40, "11", "0-3", "5-3", "9-11", "no such item", "", "1,2", "x" * 1000])
async def test_an_unknown_item_is_named(run, ten, workspace, item):
    with pytest.raises(Invalid, match="its items are 1-10") as refused:
        await run("checklist_run", checklist="ten", subject="x", results=[mark(1), mark(item)])
    assert refused.value.field == "results.1.item"
    assert len(refused.value.message) < 300
    assert await stored(workspace) == []


@pytest.mark.parametrize("twice", [[1, 1], ["1-3", 3], [3, "2-4"], [2, "item *2*"]])
async def test_an_item_that_is_answered_twice_is_named(run, ten, workspace, twice):
    with pytest.raises(Invalid, match=r"`results\.1\.item` answers item \d a second time"):
        await run("checklist_run", checklist="ten", subject="x", results=[mark(one) for one in twice])
    assert await stored(workspace) == []


async def test_nothing_to_score_is_refused(run, ten, workspace):
    with pytest.raises(Invalid, match="Every item is marked na"):
        await run("checklist_run", checklist="ten", subject="x", results=[mark("1-10", "na")])
    await change(workspace.opened, ADD, "none", "None", [])
    with pytest.raises(Invalid, match="has no items"):
        await run("checklist_run", checklist="none", subject="x", results=[])
    with pytest.raises(NotFound, match="story-dod"):
        await run("checklist_run", checklist="shopping", subject="x", results=[])


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"subject": ""}, "subject"),
        ({"subject": " \u200b\n"}, "subject"),
        ({"subject": "x" * 201}, "subject"),
        ({"subject": "a\x00b"}, "subject"),
        ({"results": [{"item": 1}]}, "results.0.mark"),
        ({"results": [mark(1, "ok")]}, "results.0.mark"),
        ({"results": [mark(1, comment="x")]}, "results.0.comment"),
        ({"results": [mark(1, note="x" * 301)]}, "results.0.note"),
        ({"results": [mark("x" * 1001)]}, "results.0.item"),
        ({"results": [mark(1)] * 2001}, "results"),
        ({"results": [mark([1])]}, "results.0.item"),
        ({"results": [mark(True)]}, "results.0.item"),
        ({"results": [mark(1.5)]}, "results.0.item"),
    ],
)
async def test_wrong_input_is_named(run, ten, wrong, field):
    with pytest.raises(Invalid) as refused:
        await run("checklist_run", **{"checklist": "ten", "subject": "x", "results": [mark(1)], **wrong})
    assert (refused.value.field or "").startswith(field)


async def test_notes_are_not_a_place_for_documents(run, workspace):
    items = [{"section": "", "text": f"{n}", "mark": " "} for n in range(200)]
    await change(workspace.opened, ADD, "long", "Long", items)
    with pytest.raises(Invalid, match="20,000 characters"):
        await run("checklist_run", checklist="long", subject="x", results=[mark("1-200", note="n" * 300)])


async def test_runs_at_once_all_stay(run, ten, workspace):
    done = await asyncio.gather(
        *(run("checklist_run", checklist="ten", subject=f"T-{n}", results=[mark("1-10")]) for n in range(8))
    )
    assert {one.subject for one in done} == {f"T-{n}" for n in range(8)}
    runs = await stored(workspace)
    assert {one["subject"] for one in runs} == {f"T-{n}" for n in range(8)}
    assert [one["at"] for one in runs] == sorted(one["at"] for one in runs)


async def test_the_newest_hundred_runs_are_kept(run, ten, workspace):
    await change(
        workspace.opened,
        "UPDATE bmad_checklists SET runs = (SELECT jsonb_agg(jsonb_build_object('subject', 'old ' || n, 'gate', 'pass',"
        " 'score', 100, 'at', '2026-01-01T00:00:00Z', 'results', '[]'::jsonb) ORDER BY n) FROM generate_series(1, 99) n)"
        " WHERE project_id = bmad_project() AND name = 'ten'",
    )
    for n in range(3):
        await run("checklist_run", checklist="ten", subject=f"new {n}", results=[mark("1-10")])
    runs = [one["subject"] for one in await stored(workspace)]
    assert len(runs) == 100
    assert (runs[0], runs[-4:]) == ("old 3", ["old 99", "new 0", "new 1", "new 2"])


async def test_the_same_key_runs_once(run, ten, workspace):
    once = {"checklist": "ten", "subject": "x", "results": [mark("1-9")], "idempotency_key": "k"}
    first, second = await run("checklist_run", **once), await run("checklist_run", **once)
    assert first == second
    assert len(await stored(workspace)) == 1
    with pytest.raises(Conflict, match="other arguments"):
        await run("checklist_run", **{**once, "results": [mark("1-8")]})


async def test_a_run_in_another_project_is_not_seen(run, ten, workspace, pool):
    other = await new_project(pool)
    before = await dump(other)
    await run("checklist_run", checklist="story-dod", subject="x", results=[mark(1)])
    assert await dump(other) == before


async def test_every_built_in_checklist_is_answered_by_the_numbers_that_are_shown(run):
    for brief in (await run("checklist_list")).items:
        found = await run("checklist_get", checklist=brief.name)
        numbers = [number for section in found.sections for number in section.items]
        assert numbers == list(range(1, brief.items + 1))
        done = await run(
            "checklist_run", checklist=brief.name, subject="story 1.1", results=[mark(n) for n in numbers[:-1]]
        )
        last = " ".join(found.sections[-1].items[numbers[-1]].split())
        assert [(one.item, one.text[:100]) for one in done.unanswered] == [(numbers[-1], last[:100])]
        assert done.counts["pass"] == brief.items - 1


async def test_the_real_checklists_are_run_with_lean_answers_and_survive_an_import(run, workspace, tmp_path):
    folder = installed(V4, tmp_path / "shop")
    await import_folder(workspace.opened, folder)
    for name, items in (("architect", 195), ("pm", 139), ("story-dod", 28)):
        with pytest.raises(Invalid, match="`results` is empty"):
            await run("checklist_run", checklist=name, subject="the project", results=[])
        nothing = await run("checklist_run", checklist=name, subject="the project", results=[mark(1, "fail")])
        assert (nothing.score, nothing.gate, nothing.counts["unanswered"]) == (0, "fail", items - 1)
        assert nothing.more == f"Also unanswered 27-{items}."
        assert len(nothing.model_dump_json(exclude_unset=True)) < 7_000
        found = await run("checklist_get", checklist=name)
        by_text = {text: n for section in found.sections for n, text in section.items.items()}
        text, number = next(iter(by_text.items()))
        done = await run(
            "checklist_run",
            checklist=name,
            subject="the project",
            results=[mark(text[:1000]), *([mark(f"2-{items}", "partial")] if number == 1 else [])],
        )
        assert done.counts["partial"] == items - 1
    before = await stored(workspace, "architect")
    assert len(before) == 2
    assert before[0]["of"]
    checklist = folder / ".bmad-core/checklists/architect-checklist.md"
    checklist.write_text(checklist.read_text() + "\n- [ ] One more\n")
    await import_folder(workspace.opened, folder)
    assert await stored(workspace, "architect") == before
    await run("checklist_run", checklist="architect", subject="again", results=[mark(196)])
    assert (await stored(workspace, "architect"))[-1]["of"] != before[0]["of"]


async def test_an_import_and_runs_at_once_lose_nothing(run, workspace, tmp_path):
    folder = installed(V4, tmp_path / "shop")
    results = await asyncio.gather(
        import_folder(workspace.opened, folder),
        *(run("checklist_run", checklist="story-dod", subject=f"T-{n}", results=[mark(1)]) for n in range(4)),
        return_exceptions=True,
    )
    assert not [one for one in results if isinstance(one, BaseException)]
    assert len(await stored(workspace, "story-dod")) == 4


def test_numbers_are_written_as_people_do():
    assert spans([1, 2, 3, 5, 8, 9]) == "1-3, 5, 8-9"
    assert spans([]) == ""


def test_hostile_items_are_quick():
    texts = [f"item {n}" for n in range(2000)]
    for item in ("9" * 1000, "1-" * 500, " " * 1000, "-" * 1000, "#" * 1000, "1" * 9 + "-" + "1" * 9):
        with pytest.raises(BmadError):
            answered("x", texts, [ItemResult(item=item, mark="pass")])

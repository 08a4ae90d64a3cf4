"""The quality gates of stories: what the evidence asks for, who records them, and what is kept."""

import asyncio
import json
from itertools import product

import pytest
from bmad_installs import V4, add_v4_docs, installed
from stored_rows import story as story_row

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.call import Caller
from bmad_mcp.errors import Conflict, Forbidden, Invalid, NotFound, VersionConflict
from bmad_mcp.stories.evidence import asked_by, issue_ids, quality_score
from bmad_mcp.stories.schemas import GateIssue

pytest_plugins = ("stories.fixtures",)

PASS = {"story": "1.1", "gate": "PASS", "reason": "All criteria are met."}


def issue(severity="medium", finding="No test", **more):
    return {"severity": severity, "finding": finding, **more}


async def stored(workspace, key="1.1"):
    return (await story_row(workspace.opened, key))["gate"]


async def test_a_gate_is_recorded_and_told_in_few_words(run, story, put):
    await put("1.1", status="review")
    done = await run("gate_record", **PASS)
    told = json.loads(done.model_dump_json(exclude_unset=True))
    assert told["gate"].pop("updated").endswith("Z")
    assert told == {
        "story": {"key": "1.1", "status": "review", "version": 2},
        "gate": {"gate": "PASS", "score": 100, "reviewer": "local"},
        "next": "story_update story=1.1 expected_version=2 status=done.",
    }


async def test_what_is_stored_has_the_shape_of_the_import(run, story, session, workspace, sql):
    qa = await session("qa")
    await run(
        "gate_record",
        caller=qa,
        story="1.1",
        gate="WAIVED",
        reason=" Ships behind a flag.\n",
        waived_by="Ann, product",
        issues=[issue("high", "Open redirect", id="sec", suggested_action="Check the host"), issue()],
        nfr={"security": "FAIL", "performance": "PASS", "reliability": "CONCERNS"},
        risk_score=9,
    )
    gate = await stored(workspace)
    assert gate.pop("updated")[-1] == "Z"
    assert gate == {
        "gate": "WAIVED",
        "reason": "Ships behind a flag.",
        "reviewer": "qa",
        "score": 40,
        "issues": [
            {"id": "SEC-001", **issue("high", "Open redirect", suggested_action="Check the host")},
            {"id": "REQ-001", **issue()},
        ],
        "waiver": {"active": True, "reason": "Ships behind a flag.", "approved_by": "Ann, product"},
        "nfr": {
            "security": {"status": "FAIL"},
            "performance": {"status": "PASS"},
            "reliability": {"status": "CONCERNS"},
        },
        "risk": {"highest": {"score": 9}},
    }
    [told] = await sql(
        "SELECT subject, agent, detail FROM bmad_agent_activity"
        " WHERE operation = 'gate_record' AND project_id = bmad_project()"
    )
    assert dict(told) == {"subject": "story 1.1", "agent": "qa", "detail": {"gate": "WAIVED", "score": 40}}


RULES = [
    (None, {}, {}, "PASS", 100),
    (5, {"security": "PASS"}, {"A": "low"}, "PASS", 100),
    (6, {}, {}, "CONCERNS", 100),
    (8, {}, {}, "CONCERNS", 100),
    (9, {}, {}, "FAIL", 100),
    (10, {}, {}, "FAIL", 100),
    (None, {"security": "CONCERNS"}, {}, "CONCERNS", 90),
    (None, {"security": "FAIL", "performance": "CONCERNS"}, {}, "FAIL", 70),
    (None, {}, {"A": "medium"}, "CONCERNS", 90),
    (None, {}, {"A": "high", "B": "medium"}, "FAIL", 70),
    (6, {"security": "FAIL"}, {}, "FAIL", 80),
    (6, {}, {"A": "high"}, "FAIL", 80),
    (9, {"security": "CONCERNS"}, {"A": "low"}, "FAIL", 90),
    (0, dict.fromkeys("abcd", "FAIL"), dict.fromkeys("efgh", "high"), "FAIL", 0),
]


@pytest.mark.parametrize(("risk", "nfr", "severities", "gate", "score"), RULES)
def test_the_evidence_asks_for_a_gate(risk, nfr, severities, gate, score):
    asked, because = asked_by(risk, nfr.items(), severities.items())
    assert asked == gate
    assert because or gate == "PASS"
    assert quality_score(nfr.values(), severities.values()) == score


@pytest.mark.parametrize(
    ("asked", "gate"), list(product(["PASS", "CONCERNS", "FAIL"], ["PASS", "CONCERNS", "FAIL", "WAIVED"]))
)
@pytest.mark.parametrize("by", ["risk", "nfr", "issue"])
async def test_a_gate_may_be_worse_than_its_evidence_and_better_only_waived(run, story, asked, gate, by):
    evidence = {
        "risk": {"risk_score": {"PASS": 5, "CONCERNS": 6, "FAIL": 9}[asked]},
        "nfr": {"nfr": {"reliability": asked}},
        "issue": {"issues": [issue({"PASS": "low", "CONCERNS": "medium", "FAIL": "high"}[asked])]},
    }[by]
    waived = {"waived_by": "Ann"} if gate == "WAIVED" else {}
    order = ["PASS", "CONCERNS", "FAIL", "WAIVED"]
    call = run("gate_record", story="1.1", gate=gate, reason="x", **evidence, **waived)
    if order.index(gate) >= order.index(asked):
        assert (await call).gate.gate == gate
        return
    why = {"risk": r"the risk is \d", "nfr": f"reliability is {asked}", "issue": "REQ-001 is"}[by]
    with pytest.raises(Invalid, match=rf"asks for {asked}: {why}.*or WAIVED with `waived_by`") as refused:
        await call
    assert refused.value.field == "gate"
    assert (await run("story_get", story="1.1")).gate is None


async def test_a_given_score_goes_before_the_computed_one(run, story):
    assert (await run("gate_record", **{**PASS, "score": 0})).gate.score == 0
    assert (await run("gate_record", **{**PASS, "gate": "FAIL", "issues": [issue("high")]})).gate.score == 80


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([None, None], ["REQ-001", "REQ-002"]),
        (["SEC", None, "sec", "PERF"], ["SEC-001", "REQ-001", "SEC-002", "PERF-001"]),
        (["SEC-2", "SEC", "SEC", "SEC"], ["SEC-002", "SEC-001", "SEC-003", "SEC-004"]),
        (["mnt7", "ARCH-0012", "DOC-9999", " "], ["MNT-007", "ARCH-012", "DOC-9999", "REQ-001"]),
        ([None, "REQ-001"], ["REQ-002", "REQ-001"]),
    ],
)
def test_an_issue_without_a_number_gets_the_next_free_one(ids, found):
    assert issue_ids([GateIssue(severity="low", finding="x", id=one) for one in ids]) == found


@pytest.mark.parametrize("wrong", [["SEC-1", "sec-001"], ["TECH-1"], ["SEC-0"], ["1"], ["SEC-00001"], ["SEC 1"]])
async def test_an_id_of_another_form_or_twice_is_named(run, story, wrong):
    with pytest.raises(Invalid, match=r"`issues\.\d\.id`"):
        await run("gate_record", **{**PASS, "issues": [issue("low", id=one) for one in wrong]})


async def test_a_waiver_names_who_answers_for_it(run, story):
    with pytest.raises(Invalid, match="names who answers") as refused:
        await run("gate_record", **{**PASS, "gate": "WAIVED"})
    assert refused.value.field == "waived_by"
    with pytest.raises(Invalid, match="goes with the gate WAIVED, not with PASS"):
        await run("gate_record", **PASS, waived_by="Ann")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": " \n"}, "reason"),
        ({"reason": "x" * 2001}, "reason"),
        ({"reason": "\x00"}, "reason"),
        ({"gate": "pass"}, "gate"),
        ({"gate": "OK"}, "gate"),
        ({"risk_score": 11}, "risk_score"),
        ({"risk_score": -1}, "risk_score"),
        ({"score": 101}, "score"),
        ({"nfr": {"beauty": "PASS"}}, "nfr"),
        ({"nfr": {"security": "WAIVED"}}, "nfr"),
        ({"issues": [issue("critical")]}, "issues.0.severity"),
        ({"issues": [issue(finding=" ")]}, "issues.0.finding"),
        ({"issues": [issue(finding="x" * 601)]}, "issues.0.finding"),
        ({"issues": [issue(suggested_action="x" * 601)]}, "issues.0.suggested_action"),
        ({"issues": [issue(owner="x")]}, "issues.0.owner"),
        ({"issues": [issue()] * 41}, "issues"),
        ({"waived_by": ""}, "waived_by"),
        ({"story": "one"}, "story"),
    ],
)
async def test_wrong_input_is_named(run, story, wrong, field):
    with pytest.raises(Invalid) as refused:
        await run("gate_record", **{**PASS, **wrong})
    assert (refused.value.field or "").startswith(field)
    assert len(refused.value.message) < 600


async def test_qa_and_people_record_gates_and_no_other_agent(run, story, session):
    agents = ("analyst", "architect", "dev", "pm", "po", "qa", "sm", "ux")
    for agent in agents:
        caller = await session(agent, f"of {agent}")
        if agent == "qa":
            assert (await run("gate_record", caller=caller, **PASS)).gate.reviewer == "qa"
            continue
        with pytest.raises(Forbidden, match=f"{agent} may not record a gate; qa may") as refused:
            await run("gate_record", caller=caller, **PASS)
        assert refused.value.field == "gate"
    assert (await run("gate_record", caller=Caller(principal="ann", connection="hers"), **PASS)).gate.reviewer == "ann"


async def test_a_named_agent_must_be_in_session(run, story, session):
    with pytest.raises(Forbidden, match="qa is not in session"):
        await run("gate_record", **PASS, agent="qa")
    await session("qa")
    dev = await session("dev")
    with pytest.raises(Forbidden, match="dev may not"):
        await run("gate_record", caller=dev, **PASS)
    assert (await run("gate_record", caller=dev, **PASS, agent="QA")).gate.reviewer == "qa"


async def test_a_stale_version_is_refused(run, story):
    with pytest.raises(VersionConflict, match="at version 1, not 2") as refused:
        await run("gate_record", **PASS, expected_version=2)
    assert refused.value.field == "expected_version"
    for far in (0, -(10**30), 10**30):
        with pytest.raises(VersionConflict):
            await run("gate_record", **PASS, expected_version=far)
    assert (await run("gate_record", **PASS, expected_version=1)).story.version == 2
    with pytest.raises(VersionConflict, match=r"local changed it .* \(gate_record\)"):
        await run("gate_record", **PASS, expected_version=1)


async def test_an_unknown_story_is_told(run, story):
    for name, more in (("gate_record", PASS), ("gate_get", {})):
        with pytest.raises(NotFound, match=r"no story 9\.9"):
            await run(name, **{**more, "story": "9.9"})


async def test_the_same_key_records_once(run, story):
    once = {**PASS, "issues": [issue("low")], "nfr": {"security": "PASS"}, "idempotency_key": "k"}
    first, second = await run("gate_record", **once), await run("gate_record", **once)
    assert first == second
    assert (await run("story_get", story="1.1")).version == 2
    with pytest.raises(Conflict, match="other arguments"):
        await run("gate_record", **{**once, "score": 1})


async def test_earlier_gates_become_the_history(run, story, workspace):
    await run("gate_record", **{**PASS, "gate": "FAIL", "reason": "a" * 2000, "risk_score": 9, "issues": [issue()]})
    first = await stored(workspace)
    await run("gate_record", **{**PASS, "gate": "CONCERNS", "reason": "Better."})
    await run("gate_record", **PASS)
    gate = await stored(workspace)
    assert [(one["gate"], one["note"]) for one in gate["history"]] == [("FAIL", "a" * 200), ("CONCERNS", "Better.")]
    assert gate["history"][0]["at"] == first["updated"]
    assert not {"risk", "issues", "waiver", "nfr"} & set(gate)
    assert (await run("story_get", story="1.1")).version == 4


async def test_the_history_keeps_the_newest_twenty(run, story, workspace):
    for n in range(23):
        await run("gate_record", **{**PASS, "reason": f"Round {n}"})
    history = (await stored(workspace))["history"]
    assert [one["note"] for one in history] == [f"Round {n}" for n in range(2, 22)]


async def test_gates_at_once_all_stay_in_the_history(run, story, workspace):
    await asyncio.gather(*(run("gate_record", **{**PASS, "reason": f"By {n}"}) for n in range(8)))
    gate = await stored(workspace)
    assert {gate["reason"], *(one["note"] for one in gate["history"])} == {f"By {n}" for n in range(8)}
    assert (await run("story_get", story="1.1")).version == 9


async def test_of_gates_with_a_version_at_once_one_wins(run, story, workspace):
    results = await asyncio.gather(
        *(run("gate_record", **PASS, expected_version=1) for _ in range(8)), return_exceptions=True
    )
    assert len([one for one in results if not isinstance(one, Exception)]) == 1
    assert all(isinstance(one, VersionConflict) for one in results if isinstance(one, Exception))
    assert "history" not in await stored(workspace)


@pytest.mark.parametrize(
    "odd",
    [
        {"gate": "PASS", "file": "docs/qa/gates/1.1-x.yml", "custom": {"kept": [1, None]}, "history": "odd"},
        {"file": "docs/qa/gates/1.1-x.yml", "custom": 1, "history": [{"gate": "FAIL"}, "free text", 7]},
        {"gate": None, "file": "docs/qa/gates/1.1-x.yml", "custom": ""},
        {"gate": {"a": 1}, "reason": ["x"], "file": "docs/qa/gates/1.1-x.yml", "custom": 0, "issues": "none"},
    ],
)
async def test_what_a_file_told_stays_and_odd_gates_can_be_read_and_replaced(run, story, sql, workspace, odd):
    change = "UPDATE bmad_stories SET gate = $1::jsonb WHERE project_id = bmad_project() AND key = '1.1'"
    await sql(change, odd)
    assert (await run("gate_get", story="1.1")).next
    done = await run("gate_record", **PASS)
    assert done.gate.gate == "PASS"
    gate = await stored(workspace)
    assert (gate["file"], gate["custom"]) == (odd["file"], odd["custom"])
    assert "issues" not in gate
    assert (await run("gate_get", story="1.1")).gate["gate"] == "PASS"
    for other in ([], 7, "PASS"):
        await sql(change, other)
        assert (await run("gate_record", **PASS)).gate.gate == "PASS"


async def test_a_gate_is_read_with_its_issues_and_history(run, story, put):
    await put("1.1", status="review")
    none = await run("gate_get", story="1.1")
    assert none.model_dump(exclude_unset=True) == {
        "story": {"key": "1.1", "status": "review", "version": 1},
        "gate": None,
        "required": False,
        "next": "gate_record story=1.1, as qa or a person.",
    }
    await run("gate_record", **PASS)
    await run("gate_record", **{**PASS, "gate": "FAIL", "reason": "Broken.", "issues": [issue("high", id="TEST")]})
    found = await run("gate_get", story="1.1")
    assert (found.gate["gate"], found.gate["score"]) == ("FAIL", 80)
    assert found.issues == [{"id": "TEST-001", **issue("high")}]
    assert [one["gate"] for one in found.history] == ["PASS"]
    assert not {"issues", "history"} & set(found.gate)
    assert found.next.startswith("story_update story=1.1 expected_version=3 status=in_progress")


@pytest.mark.parametrize(
    ("status", "gate", "says"),
    [
        ("draft", "PASS", "The story is draft; it becomes done from review."),
        ("in_progress", "FAIL", "The story is in_progress; it becomes done from review."),
        ("review", "CONCERNS", "status=done, or in_progress to have the issues fixed."),
        ("review", "WAIVED", "status=done."),
        ("done", "PASS", "nothing to do"),
        ("cancelled", "FAIL", "nothing to do"),
    ],
)
async def test_an_answer_says_what_to_do_next(run, story, put, status, gate, says):
    await put("1.1", status=status)
    waived = {"waived_by": "Ann"} if gate == "WAIVED" else {}
    assert says in (await run("gate_record", **{**PASS, "gate": gate, **waived})).next
    assert says in (await run("gate_get", story="1.1")).next


async def test_a_gate_of_a_real_file_is_read_and_followed_by_another(run, workspace, tmp_path):
    await import_folder(workspace.opened, add_v4_docs(installed(V4, tmp_path / "shop")))
    found = await run("gate_get", story="1.2")
    assert (found.gate["gate"], found.gate["score"]) == ("CONCERNS", 90)
    file = found.gate["file"]
    await run("gate_record", story="1.2", gate="PASS", reason="Fixed.")
    again = await run("gate_get", story="1.2")
    assert (again.gate["gate"], again.gate["file"], again.gate["score"]) == ("PASS", file, 100)
    assert [one["gate"] for one in again.history] == ["CONCERNS"]
    # The file says nothing new, so the gate that was recorded stays.
    await import_folder(workspace.opened, tmp_path / "shop")
    assert (await run("gate_get", story="1.2")).gate["gate"] == "PASS"


async def test_the_largest_gate_is_taken_and_read(run, story):
    words = {"finding": "ß" * 600, "suggested_action": "€" * 600}
    done = await run("gate_record", **{**PASS, "issues": [{"severity": "low", **words}] * 40, "reason": "r" * 2000})
    assert done.gate.ids == [f"REQ-{n:03d}" for n in range(1, 41)]
    assert len((await run("gate_get", story="1.1")).issues) == 40

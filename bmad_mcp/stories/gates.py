"""What can be done with the quality gates of stories."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from bmad_mcp.call import Call
from bmad_mcp.encryption.people import is_pseudonym
from bmad_mcp.errors import Invalid
from bmad_mcp.shapes import AgentName, StoryKey, Title
from bmad_mcp.stories import queries
from bmad_mcp.stories.acting import acting_agent
from bmad_mcp.stories.evidence import ORDER, asked_by, issue_ids, quality_score
from bmad_mcp.stories.refusals import changed_meanwhile, unknown_story
from bmad_mcp.stories.rights import check_gate
from bmad_mcp.stories.schemas import GateBrief, GateChange, GateIssue, GateKey, GateOut, GateWord

# The reviewer of a gate by a person whose name is not kept in the clear.
UNNAMED = "a person"
# What each gate says anew; whatever else is stored with it stays, such as the file it came from.
REPLACED = ("gate", "reason", "reviewer", "updated", "score", "issues", "waiver", "nfr", "risk")
EVIDENCE_NAMED = 5
INT4 = 2**31 - 1

Quality = Literal["security", "performance", "reliability", "maintainability"]


async def gate_record(
    call: Call,
    story: StoryKey,
    gate: GateWord,
    reason: Annotated[str, Field(min_length=1, max_length=2000)],
    issues: Annotated[tuple[GateIssue, ...], Field(max_length=40)] = (),
    nfr: Annotated[
        dict[Quality, Literal["PASS", "CONCERNS", "FAIL"]] | None, Field(description="Each PASS, CONCERNS or FAIL.")
    ] = None,
    risk_score: Annotated[int | None, Field(ge=0, le=10)] = None,
    waived_by: Annotated[Title | None, Field(description="Who answers for a waiver.")] = None,
    score: Annotated[int | None, Field(ge=0, le=100, description="Default: by nfr and issues.")] = None,
    expected_version: int | None = None,
    agent: Annotated[AgentName | None, Field(description="Default: the one you activated last.")] = None,
) -> GateChange:
    """Record a story's quality gate, as qa or a person.

    The evidence sets the best gate: FAIL for risk ≥ 9, an nfr FAIL or a high issue; CONCERNS for risk ≥ 6, an nfr
    CONCERNS or a medium issue. Worse is allowed, better only as WAIVED.
    """
    acting = await acting_agent(call, agent)
    check_gate(acting)
    _check_words(gate, reason, issues, waived_by)
    ids = issue_ids(issues)
    qualities = nfr or {}
    severities = {one: issue.severity for one, issue in zip(ids, issues, strict=True)}
    asked, because = asked_by(risk_score, qualities.items(), severities.items())
    if gate != "WAIVED" and ORDER.index(gate) < ORDER.index(asked):
        named = "; ".join(because[:EVIDENCE_NAMED]) + ("; and more" if because[EVIDENCE_NAMED:] else "")
        raise Invalid(
            f"`gate` {gate} is better than the evidence, which asks for {asked}: {named}. Record {asked}, or WAIVED with"
            " `waived_by` and the reason for it.",
            field="gate",
        )
    told = {
        "gate": gate,
        "reason": reason.strip(),
        # Gates go into files of the project; who a person is stands in the trail.
        "reviewer": acting or (UNNAMED if is_pseudonym(call.caller.principal) else call.caller.principal),
        "updated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "score": quality_score(qualities.values(), severities.values()) if score is None else score,
        "issues": [
            {"id": one, **issue.model_dump(exclude={"id"}, exclude_defaults=True)}
            for one, issue in zip(ids, issues, strict=True)
        ],
        "waiver": {"active": True, "reason": reason.strip(), "approved_by": waived_by} if waived_by else {},
        # In the shapes of nfr_validation and risk_summary in a gate's file.
        "nfr": {quality: {"status": word} for quality, word in qualities.items()},
        "risk": {} if risk_score is None else {"highest": {"score": risk_score}},
    }
    row = await call.db.fetchrow(
        queries.RECORD_GATE,
        story,
        {name: value for name, value in told.items() if value not in ([], {})},
        list(REPLACED),
        None if expected_version is None else max(-1, min(expected_version, INT4)),
        acting,
        call.caller.principal,
        call.id,
    )
    if row is None:
        now = await call.db.fetchrow(queries.STATE, story)
        if now is None:
            raise unknown_story(story)
        raise await changed_meanwhile(call.db, now, expected_version or 0)
    return GateChange(
        story=GateKey.of(row),
        gate=GateBrief.of(told, **({"ids": ids} if ids else {})),
        next=_next(row, gate),
    )


async def gate_get(call: Call, story: StoryKey) -> GateOut:
    """Read a story's quality gate with its issues and the gates before it.

    `required`: the project's configuration lets a story be done only with PASS or WAIVED (core-config.yaml `qa:
    {gateRequired: true}`, v6 `gate_required: true`), or also with CONCERNS (`concerns` in place of true).
    """
    row = await call.db.fetchrow(queries.GET_GATE, story)
    if row is None:
        raise unknown_story(story)
    gate = row["gate"] if row["gate"] and row["gate"].get("gate") else None
    lists: dict[str, Any] = {}
    if gate is not None:
        lists = {name: gate[name] for name in ("issues", "history") if isinstance(gate.get(name), list)}
        gate = {name: value for name, value in gate.items() if name not in lists}
        if "history" in lists:
            # The history of a gate that was imported is whatever its file says.
            lists["history"] = [one if isinstance(one, dict) else str(one) for one in lists["history"]]
    return GateOut(
        story=GateKey.of(row),
        gate=gate,
        required=row["accepts"] is not None,
        next=_next(row, str(gate["gate"]) if gate else None),
        **{name: found for name, found in lists.items() if found},
    )


def _check_words(gate: str, reason: str, issues: tuple[GateIssue, ...], waived_by: str | None) -> None:
    if not reason.strip():
        raise Invalid("`reason` is blank. Say in a sentence or two why the gate is what it is.", field="reason")
    for position, issue in enumerate(issues):
        if not issue.finding.strip():
            field = f"issues.{position}.finding"
            raise Invalid(f"`{field}` is blank. Say what was found, or leave the issue out.", field=field)
    if gate == "WAIVED" and waived_by is None:
        raise Invalid(
            "`waived_by` is missing: a waiver names who answers for it. Add it, or record another gate.",
            field="waived_by",
        )
    if gate != "WAIVED" and waived_by is not None:
        raise Invalid(
            f"`waived_by` goes with the gate WAIVED, not with {gate}. Leave it out, or record WAIVED.",
            field="waived_by",
        )


def _next(row: Any, gate: str | None) -> str:
    """What to call after this; made of keys only, never of stored texts."""
    move = f"story_update story={row['key']} expected_version={row['version']} status="
    if row["status"] in ("done", "cancelled"):
        return f"The story is {row['status']}: nothing to do."
    if gate is None:
        return f"gate_record story={row['key']}, as qa or a person."
    if row["status"] != "review":
        return f"The story is {row['status']}; it becomes done from review."
    if gate == "FAIL":
        return f"{move}in_progress to have the issues fixed, then gate_record again."
    if not row["passes"]:
        return f"{move}in_progress to have the issues fixed, or gate_record WAIVED: the project asks for a pass."
    return f"{move}done" + (", or in_progress to have the issues fixed." if gate == "CONCERNS" else ".")

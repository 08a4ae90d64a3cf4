"""The views inside an MCP host, in a real browser, sandboxed as hosts do, with a real MCP server behind them."""

import pytest_asyncio
from apps_host import hosting
from chromium import IN_ONE_LOOP, Tab
from hostile_texts import HOSTILE, LONG, LONG_SHOWN, MADE_ELEMENTS
from processes import held
from stored_rows import change

pytestmark = IN_ONE_LOOP


async def opened(browser, address, **options):
    tab = Tab(await browser.new_page(viewport={"width": 1000, "height": 700}, **options))
    await tab.page.goto(address)
    view = tab.page.frame_locator("iframe")
    await view.locator("html[data-ready]").wait_for(state="attached")
    return tab, view


async def told(tab, method):
    """What the view sent to its host by this method."""
    return [one for one in await tab.page.evaluate("log") if one.get("method") == method]


@pytest_asyncio.fixture(loop_scope="module")
async def host(sample):
    async with held(hosting(sample)) as host:
        yield host


async def test_the_board_claims_moves_and_follows_the_host(browser, host, run):
    task = (await run("task_create", title="Print the calendar", story="2.4", agent="dev")).task.key
    tab, view = await opened(browser, await host.page_of("project_status"))
    ready = view.get_by_role("region", name="ready")
    await ready.get_by_text("Local time and change of clocks").wait_for()

    await ready.get_by_role("button", name="2.4").click()
    panel = view.get_by_role("dialog")
    await panel.get_by_role("button", name=f"Claim {task}", exact=True).click()
    await panel.get_by_text(f"{task} is held by dev.").wait_for()
    assert (await run("task_get", task=task)).task.held_by == "dev"
    await panel.get_by_role("button", name=f"Start {task}", exact=True).click()
    await panel.get_by_text(f"{task} is begun.").wait_for()
    assert await tab.serious(tab.page.frames[1]) == []
    await panel.get_by_role("button", name="Close").click()
    clock = view.locator('[data-key="2.4"] time.lease')
    before = await clock.inner_text()
    assert before.endswith("left")
    await view.locator('[data-key="2.4"] time.lease', has_not_text=before).wait_for()

    summary = view.get_by_label("Move story 3.1")
    await summary.focus()
    await tab.page.keyboard.press("Enter")
    await view.locator('[data-key="3.1"]').get_by_role("button", name="in progress").press("Enter")
    await view.get_by_text("Story 3.1 is in progress now.").wait_for()
    await view.get_by_role("region", name="in progress").get_by_text("Keep favourite stations").wait_for()
    assert (await run("story_get", story="3.1")).status == "in_progress"

    await tab.page.evaluate("turn('dark')")
    await view.locator('html[data-theme="dark"]').wait_for(state="attached")
    assert await tab.serious(tab.page.frames[1]) == []
    await tab.picture("app-board-dark")
    await tab.page.evaluate("teardown()")
    await tab.page.wait_for_function("log.some((one) => one.id === 'end' && one.result)")
    assert await told(tab, "ui/notifications/size-changed")
    calls = [one["params"] for one in await told(tab, "tools/call")]
    moved = next(one["arguments"] for one in calls if one["name"] == "story_update")
    assert moved["expected_version"] >= 1
    assert next(one["arguments"] for one in calls if one["name"] == "task_start")["lease"] >= 1
    assert tab.faults == []
    assert {address.split("?")[0] for address in tab.asked if not address.startswith("data:")} == {
        f"{host.address}/{path}" for path in ("", "view", "rpc")
    }


async def test_a_refusal_is_told_in_the_view(browser, host, sample, run):
    async with hosting(sample, read_only=True) as reading:
        tab, view = await opened(browser, await host.page_of("story_list", status="ready"))
        story = await run("story_get", story="3.1")
        await view.get_by_label("Move story 3.1").click()
        await run("story_update", story="3.1", expected_version=story.version, status="draft")
        await view.locator('[data-key="3.1"]').get_by_role("button", name="in progress").click()
        await view.get_by_text("Story 3.1 is draft by now").wait_for()
        assert (await run("story_get", story="3.1")).status == "draft"
        assert tab.faults == []

        tab, view = await opened(browser, await reading.page_of("project_status"))
        await view.get_by_label("Move story 2.4").click()
        await view.locator('[data-key="2.4"]').get_by_role("button", name="in progress").click()
        await view.get_by_text("story_update writes, and this server is read-only.").wait_for()
        assert tab.faults == []


async def test_hosts_that_can_less_are_shown_what_they_told(browser, host, run):
    started = await run("workflow_start", type="brownfield-ui", title="Redraw")
    key = started.workflow.key
    await run("task_create", title="Billing", agent="dev")
    # No resources: the board comes from lists.
    tab, view = await opened(browser, await host.page_of("story_list", {"serverTools": {}}))
    await view.get_by_role("region", name="done").get_by_text("Show a day's high").wait_for()
    assert not await told(tab, "resources/read")
    await view.get_by_role("region", name="Tasks without a story").get_by_text("Billing").wait_for()
    assert len(await told(tab, "tools/call")) == 2
    await tab.page.close()
    # Neither: what the tool answered is all there is.
    tab, view = await opened(browser, await host.page_of("workflow_get", {}, workflow=key))
    await view.locator("ol.stages li[aria-current=step]").wait_for()
    assert await view.locator("ol.stages > li").count() > 3
    assert not await told(tab, "tools/call")
    assert await tab.serious(tab.page.frames[1]) == []
    await tab.page.evaluate("push({isError: true, content: [{type: 'text', text: 'It was refused.'}]})")
    await view.get_by_text("It was refused.").wait_for()
    await tab.page.close()
    tab, view = await opened(browser, await host.page_of("analytics_overview", days=7))
    await view.get_by_role("img", name="Tasks completed by day").wait_for()
    assert await tab.serious(tab.page.frames[1]) == []
    assert tab.faults == []


async def test_what_others_wrote_is_text_in_a_host_too(browser, workspace, run):
    await run("epic_create", title=HOSTILE)
    story = (await run("story_create", epic="1", title=HOSTILE, acceptance=[HOSTILE])).story.key
    await run("task_create", title=HOSTILE, story=story)
    key = (await run("workflow_start", type="brownfield-ui", title=HOSTILE)).workflow.key
    await change(workspace.opened, "UPDATE bmad_stories SET title = $1 WHERE project_id = bmad_project()", LONG)
    async with hosting(workspace) as host:
        tab, view = await opened(browser, await host.page_of("story_list"))
        assert await view.locator(".card .title bdi").text_content() == LONG_SHOWN
        await view.locator(".card .title").click()
        await view.get_by_role("dialog").get_by_role("heading", name="Tasks").wait_for()
        await is_plain(tab)
        tab, view = await opened(browser, await host.page_of("workflow_get", workflow=key))
        await view.locator("ol.stages").wait_for()
        await is_plain(tab)


async def is_plain(tab):
    """Nothing in the view became more than text."""
    frame = tab.page.frames[1]
    assert await frame.evaluate(MADE_ELEMENTS) == 0
    assert "\u202e" not in await frame.evaluate("document.body.innerText")
    assert await frame.evaluate("typeof hacked") == "undefined"
    assert tab.faults == []

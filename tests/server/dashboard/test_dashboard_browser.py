"""The dashboard in a real browser: a person's work on the board, hostile texts, logging in, and how soon it shows."""

import asyncio
import time

import pytest
from auth_server import guarded_server
from chromium import IN_ONE_LOOP, Tab
from hostile_texts import HOSTILE, LONG, LONG_SHOWN, MADE_ELEMENTS
from stored_rows import change
from writer_process import writing

pytestmark = IN_ONE_LOOP

PICTURES = ("board", "workflows", "analytics", "memory")
# The sample's tasks were closed by an import, which tells no moments: these are for the pictures of the numbers.
WORKED = """
UPDATE bmad_tasks SET completed_at = moment.at, started_at = moment.at - number % 9 * interval '35 minutes',
    created_at = moment.at - number % 9 * interval '3 hours', quality = 62 + number * 7 % 37,
    lease_agent = CASE WHEN number % 4 = 0 THEN 'qa' ELSE 'dev' END
FROM (SELECT id, now() - number * 5 % 26 * interval '1 day' AS at FROM bmad_tasks) moment
WHERE project_id = bmad_project() AND bmad_tasks.id = moment.id AND status = 'completed'
"""
PAGES = ("board", "agents", "activity", "epics", "workflows", "analytics", "memory", "drift", "inspector", "settings")
# The pages that the suite looks at with axe-core and on a small screen; `make soak` takes all.
SOME = ("board", "analytics")


async def tab_on(browser, address, **options):
    """A tab with the dashboard, once it can be used."""
    options = {"viewport": {"width": 1280, "height": 720}} | options
    tab = Tab(await browser.new_page(**options))
    await tab.page.goto(address)
    await tab.page.wait_for_selector("html[data-ready]", state="attached")
    return tab


async def show(tab, name):
    await tab.page.get_by_role("link", name=name.capitalize(), exact=True).click()
    await tab.page.locator(f"main[aria-busy=false] #title-{name}").wait_for()


async def seen_after(page, other, title):
    """The seconds until the page shows a story that another process has made."""
    await other.run("story_create", epic="3", title=title)
    begun = time.monotonic()
    await page.get_by_text(title).wait_for()
    return time.monotonic() - begun


async def test_a_person_works_on_the_board(browser, sample, run, database):
    task = (await run("task_create", title="Print the calendar", story="2.4", agent="dev")).task.key
    await run("workflow_start", type="brownfield-ui", title="Redraw the curve")
    await change(sample.opened, "UPDATE bmad_projects SET name = 'Tidepool' WHERE id = bmad_project()")
    await change(sample.opened, WORKED)
    await run("memory_store", text="The port authority publishes new constituents each spring.", agent="analyst")
    given = await run("handoff_offer", to="qa", story="2.2", note="The curve is drawn; look at low water.")
    await run("handoff_accept", handoff=given.handoff.key, quality=85)
    async with guarded_server(sample, is_authenticated=False) as served:
        tab = await tab_on(browser, served.address, color_scheme="light")
        page = tab.page
        cards = page.locator(".card")
        assert await cards.count() == 12
        await page.get_by_label("Find").fill("tide")
        await page.get_by_text("stories fit").wait_for()
        assert 0 < await cards.count() < 12
        await page.get_by_label("Find").fill("")

        await page.locator('[data-key="2.4"] .title').focus()
        await page.keyboard.press("Enter")
        panel = page.get_by_role("dialog")
        await panel.get_by_role("button", name=f"Claim {task}", exact=True).click()
        await panel.get_by_text(f"{task} is held by dev.").wait_for()
        await tab.picture("dashboard-story")
        assert await tab.serious() == []
        await page.keyboard.press("Escape")
        await panel.wait_for(state="hidden")
        await page.wait_for_url("**/#board")
        assert await page.locator('[data-key="2.4"] .title').evaluate("one => one === document.activeElement")
        await page.locator('[data-key="2.4"] .claims', has_text=f"dev {task}").wait_for()
        await page.get_by_label("Held by").select_option("dev")
        assert await cards.count() == 1
        await page.get_by_label("Held by").select_option("")

        await page.locator('[data-key="3.1"]').drag_to(page.get_by_role("region", name="in progress"))
        await page.get_by_text("Story 3.1 is in progress now.").wait_for()
        await page.get_by_role("region", name="in progress").get_by_text("Keep favourite stations").wait_for()
        async with writing(database.app, sample.opened) as other:
            await page.locator(".badge.live").wait_for()
            # The best of three: what waits for a timer is never this soon, and a busy machine may hold one back.
            soonest = min([await seen_after(page, other, f"Made by another process {number}") for number in range(3)])
            assert soonest <= 1.0
            await show(tab, "activity")
            await other.run("task_create", title="Seen in the stream", agent="qa")
            await page.locator(".stream li", has_text="create task").first.wait_for()

        for name in PAGES:
            await show(tab, name)
            if name == "board":
                loose = page.get_by_role("region", name="Tasks without a story")
                await loose.locator(".card", has_text="Seen in the stream").get_by_text("pending · for qa").wait_for()
            if name == "memory":
                await page.get_by_label("What the memory is asked").fill("constituents")
                await page.keyboard.press("Enter")
                await page.get_by_text("Kept in").first.wait_for()
            if name in PICTURES:
                await tab.picture(f"dashboard-{name}")
        # A story has an address that can be sent to somebody.
        await page.goto(f"{served.address}/#story/2.3")
        await page.get_by_role("dialog", name="2.3 Month calendar of tides").wait_for()
        await page.go_back()
        await page.get_by_role("dialog").wait_for(state="hidden")
        assert [one for one in tab.asked if not one.startswith((f"{served.address}/", "data:"))] == []
        assert tab.faults == []


@pytest.mark.parametrize("pages", [SOME, pytest.param(PAGES, marks=pytest.mark.soak)], ids=["some", "all"])
async def test_it_is_for_everybody_in_light_and_dark_and_on_a_small_screen(browser, sample, run, pages):
    await run("task_claim", agent="dev")
    await run("workflow_start", type="brownfield-ui", title="Redraw the curve")
    await change(sample.opened, "UPDATE bmad_projects SET name = 'Tidepool' WHERE id = bmad_project()")
    async with guarded_server(sample, is_authenticated=False) as served:
        tab = await tab_on(browser, served.address, color_scheme="light")
        page = tab.page
        for name in pages:
            await show(tab, name)
            assert await tab.serious() == [], name
        await page.get_by_role("button", name="Theme: auto").click()
        await page.get_by_role("button", name="Theme: light").click()
        await page.locator('html[data-theme="dark"]').wait_for(state="attached")
        await page.set_viewport_size({"width": 360, "height": 740})
        for name in pages:
            await show(tab, name)
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360, f"{name} is {wide} px wide"
            assert await tab.serious() == [], name
        await show(tab, "board")
        await page.reload()
        await page.locator('html[data-theme="dark"]').wait_for(state="attached")
        await page.locator(".card").first.wait_for()
        await tab.picture("dashboard-small-dark")
        await page.set_viewport_size({"width": 1280, "height": 720})
        await tab.picture("dashboard-dark")
        assert tab.faults == []


async def test_what_is_looked_for_is_found_beyond_the_stories_that_a_column_shows(browser, workspace, run):
    await run("epic_create", title="Tides")
    for number in range(1, 56):
        await run("story_create", epic="1", title=f"Harbour {number}")
    async with guarded_server(workspace, is_authenticated=False) as served:
        tab = await tab_on(browser, served.address)
        draft = tab.page.get_by_role("region", name="draft")
        await draft.get_by_text("5 more are not shown.").wait_for()
        await tab.page.get_by_label("Find").fill("harbour 55")
        await draft.get_by_text("Harbour 55").wait_for()
        await tab.page.get_by_text("1 story fits").wait_for()
        await tab.page.get_by_label("Find").fill("")
        await draft.get_by_text("5 more are not shown.").wait_for()
        assert tab.faults == []


async def test_what_others_wrote_is_shown_as_text_everywhere(browser, workspace, run):
    await run("epic_create", title=HOSTILE, goal=HOSTILE)
    story = (await run("story_create", epic="1", title=HOSTILE, want=HOSTILE, acceptance=[HOSTILE])).story.key
    await run("task_create", title=HOSTILE, story=story, description=HOSTILE)
    await run("workflow_start", type="brownfield-ui", title=HOSTILE)
    await run("memory_store", text=f"constituents {HOSTILE}", category="USER_PREFERENCES")
    await run("handoff_offer", to="qa", story=story, note=HOSTILE)
    await change(workspace.opened, "UPDATE bmad_stories SET title = $1 WHERE project_id = bmad_project()", LONG)
    await change(workspace.opened, "UPDATE bmad_projects SET name = $1 WHERE id = bmad_project()", HOSTILE)
    async with guarded_server(workspace, is_authenticated=False) as served:
        tab = await tab_on(browser, served.address)
        page = tab.page
        title = page.locator(".card .title bdi")
        shown = await title.text_content()
        assert shown == LONG_SHOWN
        assert await title.evaluate("one => getComputedStyle(one).unicodeBidi") == "isolate"
        await page.locator(".card .title").click()
        await page.get_by_role("dialog").get_by_role("heading", name="Tasks").wait_for()
        await page.keyboard.press("Escape")
        for name in PAGES:
            await show(tab, name)
            if name == "memory":
                await page.get_by_label("What the memory is asked").fill("constituents")
                await page.get_by_role("button", name="Search").click()
                await page.get_by_text("bidi").wait_for()
                memory = await page.locator(".memories li").first.inner_text()
                assert "local (an agent)" in memory
                assert workspace.opened.key in memory
                assert "this database" in memory
            if name == "inspector":
                for address in (f"bmad://stories/{story}", "bmad://project/board", "bmad://nothing"):
                    await page.get_by_label("Address").fill(address)
                    await page.get_by_role("button", name="Show").click()
                    await page.get_by_text("There is no resource" if "nothing" in address else "As JSON").wait_for()
            assert await page.evaluate(MADE_ELEMENTS) == 0
            seen = await page.evaluate("document.body.innerText")
            assert "\u202e" not in seen, name
        assert await page.evaluate("typeof hacked") == "undefined"
        faults = [one for one in tab.faults if "resource.json?address=bmad%3A%2F%2Fnothing" not in one]
        assert faults == []


async def test_with_authentication_it_asks_for_a_token_and_does_what_the_token_may(browser, sample):
    async with guarded_server(sample) as guarded:
        reader = await guarded.token("reader", "read", role="viewer")
        tab = Tab(await browser.new_page())
        await tab.page.goto(guarded.address)
        await tab.page.get_by_role("heading", name="Log in").wait_for()
        assert await tab.serious() == []
        await tab.picture("dashboard-login")
        assert tab.faults == []
        assert sample.opened.key not in await tab.page.content()
        await tab.page.get_by_label("Token").fill(reader[:-1] + "x")
        await tab.page.get_by_role("button", name="Log in").click()
        await tab.page.get_by_role("alert").get_by_text("unknown, expired or revoked").wait_for()
        await tab.page.get_by_label("Token").fill(reader)
        await tab.page.keyboard.press("Enter")
        await tab.page.get_by_label("Move story 3.1").click()
        await tab.page.locator('[data-key="3.1"]').get_by_role("button", name="in progress").click()
        await tab.page.get_by_text("needs the role member").wait_for()
        # The token is nowhere that other pages, other ports or the next visitor could have it from.
        assert await tab.page.context.cookies() == []
        assert reader not in tab.page.url
        assert await tab.page.evaluate("JSON.stringify(localStorage)") == "{}"
        assert not [address for address in tab.asked if reader in address]
        await tab.page.get_by_role("button", name="Log out").click()
        await tab.page.get_by_role("heading", name="Log in").wait_for()
        assert await tab.page.evaluate("sessionStorage.length") == 0


async def test_a_stream_that_breaks_is_taken_up_after_the_last_event(browser, workspace, run):
    await run("epic_create", title="Epic")
    asked = []

    async def stream(route):
        asked.append(route.request.headers.get("last-event-id"))
        body = f"retry: 1000\n: still here\n\nid: e-{len(asked)}\ndata: {{}}\n\n"
        await route.fulfill(status=200, content_type="text/event-stream", body=body)

    async with guarded_server(workspace, is_authenticated=False) as served:
        page = await browser.new_page()
        await page.route("**/api/v1/bmad/live", stream)
        await page.goto(served.address)
        async with asyncio.timeout(10):
            while len(asked) < 3:
                await run("story_create", epic="1", title=f"While {len(asked)}")
                await asyncio.sleep(0.1)
        await page.get_by_text("While 2").first.wait_for()
        assert asked[:3] == [None, "e-1", "e-2"]


@pytest.mark.soak
async def test_it_can_be_used_within_a_second_and_a_half_and_shows_a_change_within_one(browser, sample, database):
    async with guarded_server(sample, is_authenticated=False) as served:
        for _ in range(5):
            tab = Tab(await browser.new_page())
            begun = time.monotonic()
            await tab.page.goto(served.address, wait_until="commit")
            await tab.page.locator(".card").first.wait_for()
            assert time.monotonic() - begun <= 1.5
            await tab.page.close()
        tab = await tab_on(browser, served.address)
        async with writing(database.app, sample.opened) as other:
            for number in range(10):
                assert await seen_after(tab.page, other, f"Seen soon {number}") <= 1.0

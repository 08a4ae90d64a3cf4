"""The page at /connect: the project's state now, the snippet for each host, and what to do next."""

import asyncio
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from bmad_mcp import __version__
from bmad_mcp.analytics.schemas import ProjectStatus
from bmad_mcp.call import Caller, Workspace
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import BmadError, Unavailable
from bmad_mcp.lifecycles import StoryStatus
from bmad_mcp.operation import perform
from bmad_mcp.projects.operations import Keys
from bmad_mcp.server.host_snippets import (
    HOSTS,
    Host,
    StdioCommand,
    http_snippet,
    own_command,
    stdio_snippet,
    with_variables,
)
from bmad_mcp.server.page_policy import policy_of

STATE_SECONDS = 2.0
CALLER = Caller("local", "page", "human")
# From the end of the road to its start, so that the bar fills up from the left.
STORY_ORDER = (
    StoryStatus.DONE,
    StoryStatus.REVIEW,
    StoryStatus.IN_PROGRESS,
    StoryStatus.READY,
    StoryStatus.DRAFT,
    StoryStatus.CANCELLED,
)
COLOURED = frozenset({"done", "review", "in_progress", "ready", "draft"})


def _tab_rules() -> str:
    return "\n".join(f"#tab-{host.name}:checked ~ #pane-{host.name} {{ display: block; }}" for host in HOSTS)


_SOURCE = (Path(__file__).parent / "first_page.html").read_text(encoding="utf-8").replace("$tab_rules", _tab_rules())
_TEMPLATE = Template(_SOURCE)


CONTENT_SECURITY_POLICY = policy_of(_SOURCE)


class FirstPage:
    """The page of one server; its state is read, and its snippets are made, for each request."""

    def __init__(self, workspace: Workspace, project: str, address: str, start: StdioCommand) -> None:
        self._workspace = workspace
        self._project = project
        self._address = address
        self._start = start
        program = with_variables(start.env, own_command())
        self._fixed = {
            "version": escape(__version__),
            "address": escape(address),
            "program": escape(program),
            "variables": f"; <code>{' '.join(map(escape, start.secrets))}</code> must be set" if start.secrets else "",
            "tabs": "\n    ".join(_tab(host, is_first=host is HOSTS[0]) for host in HOSTS),
            "own_project": _snippet(
                "own", "Commands to import", _import_commands(program, project), "Copy the commands to import"
            ),
            "stdio": _snippet("stdio", "Command over stdio", start.as_shell(), "Copy the command"),
        }

    async def render(self, workspace: Workspace | None = None) -> str:
        """The page as HTML; it also appears when the database does not answer, and says so."""
        title = self._project
        try:
            status, epics = await asyncio.wait_for(self._state(workspace or self._workspace), STATE_SECONDS)
            title, badge, state = status.project.name, '<p class="badge">Running</p>', _state(status, epics)
        except TimeoutError:
            badge, state = _away("The database is starting, or takes long to answer. This page looks again by itself.")
        except BmadError as error:
            badge, state = _away(error.message)
        # Made for each reader: two who paste from the page must not send one session header.
        panes = "\n  ".join(_pane(host, self._start, self._address) for host in HOSTS)
        return _TEMPLATE.substitute(self._fixed, title=escape(title), badge=badge, state=state, panes=panes)

    async def _state(self, workspace: Workspace) -> tuple[ProjectStatus, str]:
        status = await perform(BY_NAME["project_status"], {}, CALLER, workspace)
        keys = await perform(BY_NAME["key_list"], {"kind": "epic"}, CALLER, workspace)
        if not isinstance(status, ProjectStatus) or not isinstance(keys, Keys):
            raise Unavailable("The state of the project cannot be shown.")
        return status, f"{len(keys.keys)}{'+' if keys.more else ''}"


def _away(sentence: str) -> tuple[str, str]:
    return '<p class="badge away">Not ready</p>', f'<p class="notice">{escape(sentence)}</p>'


def _state(status: ProjectStatus, epics: str) -> str:
    stories, tasks = sum(status.stories.values()), sum(status.tasks.values())
    active = status.agents.get("active", 0) + status.agents.get("busy", 0)
    figures = (
        ("Epics", epics, ""),
        ("Stories", str(stories), _named(status.stories, ("done", "in_progress"))),
        ("Tasks", str(tasks), _named(status.tasks, ("completed", "blocked"))),
        ("Agents", str(sum(status.agents.values())), f"{active} at work"),
    )
    cards = "".join(
        f"<div><dt>{name}</dt><dd>{figure}<small>{escape(note)}</small></dd></div>" for name, figure, note in figures
    )
    return f'<dl class="cards">{cards}</dl>' + (_bar(status.stories) if stories else "") + _next(status.next)


def _named(counts: Mapping[str, int], names: Iterable[str]) -> str:
    return ", ".join(f"{counts[name]} {_words(name)}" for name in names if counts.get(name))


def _words(status: str) -> str:
    return status.replace("_", " ")


def _bar(stories: Mapping[str, int]) -> str:
    total, at, parts, legend = sum(stories.values()), 0, [], []
    for status in STORY_ORDER:
        count = stories.get(status, 0)
        if not count:
            continue
        colour = f"s-{status}" if status in COLOURED else "s-other"
        parts.append(f'<rect class="{colour}" x="{at}" width="{count}" height="1"/>')
        swatch = f'<svg viewBox="0 0 1 1" aria-hidden="true"><rect class="{colour}" width="1" height="1"/></svg>'
        legend.append(f"<li>{swatch}{count} {_words(status)}</li>")
        at += count
    return (
        f'<svg class="bar" viewBox="0 0 {total} 1" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>'
        f'<ul class="legend" aria-label="Stories by status">{"".join(legend)}</ul>'
    )


def _next(actions: Sequence[str]) -> str:
    if not actions:
        return "<p>Nothing waits.</p>"
    listed = "".join(f"<li>{escape(action)}</li>" for action in actions)
    return f'<h3>What comes next</h3><ul class="next">{listed}</ul>'


def _tab(host: Host, *, is_first: bool) -> str:
    checked = " checked" if is_first else ""
    return (
        f'<input class="tab" type="radio" name="host" id="tab-{host.name}"{checked}>'
        f'<label for="tab-{host.name}">{escape(host.title)}</label>'
    )


def _pane(host: Host, start: StdioCommand, address: str) -> str:
    over_http = (
        "<p>Its configuration file takes commands only, so this goes through the npm package"
        " <code>mcp-remote</code> and needs Node.js. The snippet above reaches the same project without it.</p>"
        if host.name == "claude-desktop"
        else "<p>Works while this server runs.</p>"
    )
    return (
        f'<div class="pane" id="pane-{host.name}">'
        f"<p>Goes into <code>{escape(host.file)}</code> {escape(host.where)}.</p>"
        f"<h3>{escape(host.title)} starts its own server (stdio)</h3>"
        + _snippet(f"{host.name}-stdio", f"{host.title}, stdio", stdio_snippet(host, start), "Copy the stdio snippet")
        + f"<h3>{escape(host.title)} uses this server (HTTP)</h3>{over_http}"
        + _snippet(f"{host.name}-http", f"{host.title}, HTTP", http_snippet(host, address), "Copy the HTTP snippet")
        + "</div>"
    )


def _snippet(name: str, label: str, text: str, copy: str) -> str:
    return (
        f'<div class="snippet"><pre tabindex="0" role="region" aria-label="{escape(label)}"><code id="text-{name}">'
        f"{escape(text)}</code></pre>"
        f'<button class="copy" type="button" data-copies="text-{name}" aria-label="{escape(copy)}" hidden>Copy</button>'
        "</div>"
    )


def _import_commands(program: str, project: str) -> str:
    key = shlex.quote(project)
    return "\n".join(
        [
            f"{program} import ~/code/shop --dry-run",
            f"{program} import ~/code/shop",
            f"{program} client-config claude-code --project shop",
            f"{program} status --project {key}",
        ]
    )

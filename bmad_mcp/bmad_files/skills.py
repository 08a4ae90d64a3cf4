"""Reads skills (6.1 and later): agents and workflows as folders with a `SKILL.md`, one canonical copy of each."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from bmad_mcp.bmad_files import markdown, v6
from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.definitions import flat, read_checklist, read_guide, role_of, stem, table, words
from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.layers import layered_config, layered_skill
from bmad_mcp.bmad_files.stories import part
from bmad_mcp.bmad_files.values import AgentDefinition, Command, Generation, SourceFile, TemplateKind
from bmad_mcp.bmad_files.yaml_guard import read_mapping

HOMES = (".claude/skills", ".agents/skills")
_SKILL = re.compile(r"[A-Za-z0-9][\w.-]{0,100}")
_ROW = re.compile(r"\|\s*([^|]{1,40}?)\s*\|\s*([^|]{1,600}?)\s*\|\s*([^|]{0,200}?)\s*\|\s*")


def read_skills(found: Collected, root: str, generation: Generation) -> None:
    """Every skill of the manifest from its canonical copy; deprecated ones that only forward are left out."""
    roster = table(layered_config(found, root, generation), "agents")
    rows = v6.manifest(found, f"{v6.config_folder(found, root)}/agent-manifest.csv", generation)
    told = {row.get("canonicalId") or row.get("name", ""): row for row in rows}
    shims, later = 0, []
    for folder, module in _folders(found, root, generation):
        main = found.folder.read(f"{folder}/SKILL.md", generation, "skill")
        if main is None or main.text is None:
            continue
        skill = folder.rsplit("/", 1)[-1]
        matter = markdown.front_matter(main.text)
        head = read_mapping(matter.text, main.path, found.deviations, matter.line) if matter else {}
        if table(head, "metadata").get("lifecycle") == "shim":
            found.folder.settle(main.path, "shim")
            shims += 1
            continue
        own = layered_skill(found, root, folder, skill, generation)
        card = _card(found, folder, generation) or told.get(skill) or {}
        if "agent" in own or skill in roster or card:
            agent = partial(_agent, skill, module, head, table(own, "agent"), table(roster, skill), card)
            found.try_each(main, lambda one: found.agents.append(agent(one)))  # noqa: B023 - called at once
        else:
            later.append((folder, main, skill, {"module": module, "description": flat(head.get("description"))}))
    # Workflows come after all agents, whose menus say who runs them.
    for folder, main, skill, row in later:
        found.try_each(main, partial(_add_workflow, found, skill, row))
        _read_parts(found, folder, skill, row["module"], generation)
    if shims:
        message = f"{shims} deprecated skills that only forward to others were left out."
        found.deviations.add(
            f"{v6.config_folder(found, root)}/skill-manifest.csv", None, "shims", message, "Nothing to do."
        )


def _homes(found: Collected) -> list[str]:
    hidden = [f"{name}/skills" for name in found.folder.listing("").folders if name.startswith(".") and name != ".git"]
    places = [home for home in (*HOMES, *sorted(hidden)) if found.folder.is_folder(home)]
    return list(dict.fromkeys(real for home in places if (real := found.folder.real(home))))


def _folders(found: Collected, root: str, generation: Generation) -> Iterator[tuple[str, str]]:
    """(folder, module) of each skill: the first of the skills folders that has it, by the manifest's id."""
    homes = _homes(found)
    rows = v6.manifest(found, f"{v6.config_folder(found, root)}/skill-manifest.csv", generation)
    for row in rows:
        skill, module = row.get("canonicalId") or row.get("name", ""), row.get("module", "")
        if not _SKILL.fullmatch(skill):
            continue
        # The manifest's own path is where the skill lay before the installer moved it.
        places = [*homes, row.get("path", "").removesuffix(f"/{skill}/SKILL.md")]
        real = next(
            (real for home in places if home and (real := found.folder.locate(f"{home}/{skill}/SKILL.md"))), None
        )
        if real is None:
            message = f"The skill {shown(skill)} is in the manifest and in no skills folder."
            path = f"{v6.config_folder(found, root)}/skill-manifest.csv"
            found.deviations.add(path, None, "skill-missing", message, "Run the installer again; it was skipped.")
        else:
            yield real.removesuffix("/SKILL.md"), module
    if not rows:
        seen: set[str] = set()
        for home in homes:
            for name, folder in found.folder.listing(home).folders.items():
                if name.startswith("bmad-") and name not in seen and found.folder.is_file(f"{folder}/SKILL.md"):
                    seen.add(name)
                    yield folder, ""


def _card(found: Collected, folder: str, generation: Generation) -> dict[str, str]:
    """What 6.1 to 6.3 say of an agent in a file beside it; empty for other skills."""
    real = found.folder.locate(f"{folder}/bmad-skill-manifest.yaml")
    source = found.folder.read(real, generation, "manifest") if real else None
    data = read_mapping(source.text, source.path, found.deviations) if source else {}
    return {name: flat(one) for name, one in data.items()} if data.get("type") == "agent" else {}


def _add_workflow(found: Collected, skill: str, row: Mapping[str, str], source: SourceFile) -> None:
    found.workflows.append(v6.workflow_of(found, source, skill, row))


def _agent(
    skill: str,
    module: str,
    head: Mapping[str, Any],
    own: Mapping[str, Any],
    roster: Mapping[str, Any],
    card: Mapping[str, str],
    source: SourceFile,
) -> AgentDefinition:
    text = source.text or ""
    found = markdown.headings(text)
    short_id = role_of(skill)

    def told(name: str, card_name: str = "", heading: str = "") -> str:
        written = part(text, found, (heading,)) if heading else None
        return flat(own.get(name) or roster.get(name)) or (written or "").strip() or card.get(card_name or name, "")

    menu = [one for one in own.get("menu") or () if isinstance(one, dict)] if isinstance(own.get("menu"), list) else []
    commands = [Command(flat(one.get("code")), flat(one.get("description"))) for one in menu]
    skills = [flat(one["skill"]) for one in menu if one.get("skill")]
    if not menu:
        rows = list(_capabilities(part(text, found, ("capabilities",)) or ""))
        commands = [Command(code, description) for code, description, _ in rows]
        skills = [name for _, _, name in rows if _SKILL.fullmatch(name)]
    principles = words(own.get("principles")) or markdown.items(part(text, found, ("principles",)) or "")
    return AgentDefinition(
        id=skill.lower(),
        short_id=short_id,
        aliases=tuple(name for name in (skill.lower(),) if name != short_id),
        name=told("name", "displayName") or skill,
        title=told("title") or skill,
        icon=told("icon"),
        when_to_use=flat(head.get("description")) or told("description"),
        role=told("role"),
        style=told("communication_style", "communicationStyle", "communication style"),
        identity=told("identity", "identity", "identity"),
        focus="",
        principles=principles or words(card.get("principles")),
        commands=tuple(commands),
        dependencies={"skills": skills} if skills else {},
        module=module,
        generation=source.generation,
        path=source.path,
    )


def _capabilities(text: str) -> Iterator[tuple[str, str, str]]:
    """(code, description, skill) of each row of a `| Code | Description | Skill |` table."""
    for line in markdown.lines(text):
        match = _ROW.fullmatch(line.text) if len(line.text) <= markdown.LINE_LIMIT else None
        if match and match[1].lower() != "code" and set(match[1]) - set("-: "):
            yield match[1], match[2], match[3]


def _read_parts(found: Collected, folder: str, skill: str, module: str, generation: Generation) -> None:
    """A workflow skill's templates, checklists and tables."""
    for path in found.folder.walk(folder):
        name = path.rsplit("/", 1)[-1]
        if "/scripts/" in path or not name.endswith(v6.TEXTS):
            continue
        if name == "checklist.md":
            source = found.folder.read(path, generation, "checklist")
            found.try_each(source, partial(_add_checklist, found, module, skill))
        elif v6.TEMPLATE.fullmatch(name):
            source = found.folder.read(path, generation, "template")
            found.try_each(source, partial(_add_guide, found, module, "document", f"{skill}-{stem(path)}"))
        elif name.endswith(".csv"):
            source = found.folder.read(path, generation, "data")
            found.try_each(source, partial(_add_guide, found, module, "data", f"{skill}-{stem(name)}"))


def _add_checklist(found: Collected, module: str, name: str, source: SourceFile) -> None:
    found.checklists.append(read_checklist(source, module, name))


def _add_guide(found: Collected, module: str, kind: TemplateKind, name: str, source: SourceFile) -> None:
    found.templates.append(read_guide(source, module, kind, name))

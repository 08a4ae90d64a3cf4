"""Which artifacts are files that an import keeps, and that have a home of their own in this server."""

# Read by the import into agents, workflows, templates, checklists, stories, gates and memories.
KEPT_KINDS = (
    *("agent", "workflow", "template", "checklist", "task", "data", "team", "skill", "shim", "step"),
    *("config", "manifest", "memory", "memlog", "story", "gate", "tracker"),
)
_LISTED = ", ".join(f"'{kind}'" for kind in KEPT_KINDS)


def is_kept_sql(alias: str) -> str:
    """The SQL condition for such a file; folders of an installation begin with a dot, or are `_bmad`."""
    return (
        f"({alias}.source = 'import' AND ({alias}.kind IN ({_LISTED})"
        f" OR left({alias}.path, 1) = '.' OR starts_with({alias}.path, '_bmad/')))"
    )

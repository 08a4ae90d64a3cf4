"""SQL of the burn-up."""

# What happened before the window counts as of its first day. A story that was imported as done has no moment of its
# own for it: it was done when it came. In one pass over the stories, and not in one for each epic.
BURNUP = """
SELECT e.key AS epic, x.day, sum(x.made)::int AS made, sum(x.done)::int AS done
FROM bmad_epics e
JOIN (
    SELECT s.epic_id, least(greatest((s.created_at AT TIME ZONE 'UTC')::date, $1::date), $2::date) AS day,
        count(*) AS made, 0 AS done
    FROM bmad_stories s
    WHERE s.project_id = bmad_project() AND s.status <> 'cancelled' GROUP BY 1, 2
    UNION ALL
    SELECT s.epic_id, least(greatest((coalesce(s.completed_at, s.created_at) AT TIME ZONE 'UTC')::date, $1::date), $2::date) AS day,
        0, count(*)
    FROM bmad_stories s
    WHERE s.project_id = bmad_project() AND s.status = 'done' GROUP BY 1, 2
) x ON x.epic_id = e.id
WHERE e.project_id = bmad_project()
GROUP BY e.number, e.key, x.day ORDER BY e.number, e.key, x.day
"""

"""The columns that hold sealed texts, as the seals name them."""

MEMORY = "mcp_memories.text"
FOCUS = "bmad_agent_sessions.focus"
SESSION = "bmad_agent_sessions.summary"
COMPLETION = "bmad_tasks.summary"
HANDOFF = "bmad_agent_collaborations.note"
RESULT = "mcp_idempotency.result"
ANSWER = "mcp_memory_cache.items"

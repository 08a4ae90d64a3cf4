"""The headers by which a request over HTTP says for whom it is; MCP's own one is beside them."""

# Tells one principal's assistants apart.
SESSION_HEADER = "x-bmad-session"
PROJECT_HEADER = "x-bmad-project"
# Given to each client of a version with a handshake; it sends it back with every request.
MCP_SESSION_HEADER = "mcp-session-id"

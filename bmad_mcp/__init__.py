"""bmad-mcp: the state of BMad Method projects in PostgreSQL, for AI assistants over MCP."""

__version__ = "0.1.0"

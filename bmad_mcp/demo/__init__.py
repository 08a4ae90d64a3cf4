"""A scripted sprint by four agents, each with a real MCP connection to a server process of its own."""

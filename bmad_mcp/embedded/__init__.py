"""The embedded PostgreSQL: finding its programs and running one private cluster for many server processes."""

from bmad_mcp.embedded.binaries import Binaries, find_binaries
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import Endpoints

__all__ = ["Binaries", "Cluster", "Endpoints", "find_binaries"]

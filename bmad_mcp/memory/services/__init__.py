"""Memory services that other programs run: OpenMemory and mem0, each behind the neutral interface of answers."""

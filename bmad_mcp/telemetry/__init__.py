"""What the process tells of itself: logs, events for whoever measures, and traces. It knows no feature."""

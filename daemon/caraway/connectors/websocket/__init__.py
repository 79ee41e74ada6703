"""WebSocket sources: messages as they come, appended to a declared table."""

"""The routes of reference/http_api.md as an ASGI application over Services."""

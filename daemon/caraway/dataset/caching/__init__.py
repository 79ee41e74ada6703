"""Keeps a dataset in refresh_mode caching: the answers of an API, by request."""

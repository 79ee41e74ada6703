"""Datasets in SQLite files: an epoch is a table, an offset a rowid, and one copy of the library touches the files."""

"""Formats of files, whichever way the files come: what each says of its schema, and its rows in bounded batches."""

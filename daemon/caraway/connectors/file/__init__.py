"""`from: file:<path>`: Parquet, CSV and JSON lines on a local disk; a file, a folder or a glob."""

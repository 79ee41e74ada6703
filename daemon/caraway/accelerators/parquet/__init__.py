"""Datasets as Parquet part files with a write-ahead tail and a SQLite catalog (DESIGN section 3)."""

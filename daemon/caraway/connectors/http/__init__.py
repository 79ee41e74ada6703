"""`from: http://..` and `https://..`: files, and APIs whose answers are JSON."""

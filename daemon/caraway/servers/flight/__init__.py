"""The Flight server: SQL and schemas over Arrow Flight (reference/flight_wire.md 1 to 3)."""

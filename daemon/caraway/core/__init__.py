"""Sans-IO decisions: pure functions and machines over the standard library."""

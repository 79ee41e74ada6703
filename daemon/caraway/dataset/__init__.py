"""The dataset actor: keeps one local copy fresh, and what queries need of all of them."""

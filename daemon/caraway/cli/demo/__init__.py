"""`caraway demo`: a core and an edge in one process, and a page in the terminal that shows them."""

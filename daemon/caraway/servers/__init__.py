"""The doors of the daemon: HTTP/1.1, the API behind it, Arrow Flight, and the keys that open them."""

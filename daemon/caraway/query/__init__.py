"""SQL: the actor that admits and guards queries, and the worker process that answers them."""

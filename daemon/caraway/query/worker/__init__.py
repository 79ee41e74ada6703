"""The query worker: the child process that plans, executes and renders, and that can be killed."""

"""What a command prints when it can't do what it was asked for."""


class CliError(Exception):
    """The whole message for the user: what happened and what to do; the exit code is 1."""

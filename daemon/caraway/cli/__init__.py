"""The command line: starts daemons, and asks them over HTTP."""

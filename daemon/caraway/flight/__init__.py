"""Arrow Flight on grpc.aio: the FlightData codec, the messages, and a client with one connection per endpoint."""

import os

# gRPC's core writes connection errors to stderr by itself; they reach the log through the errors that calls raise.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

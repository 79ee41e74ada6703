"""Arrow Flight on grpc.aio: the FlightData codec, the messages, and a client with one connection per endpoint."""

"""An ASGI server for HTTP/1.1 on trio: llhttp parses, everything else is here.

`parser` and `response` are the protocol without a socket; `connection` and `exchange` do the waiting; `server` accepts.
"""

"""A running `dalle serve` as an engine: `RemoteEngine` asks it, and the server's side speaks the same protocol.

`choice.py` decides whether a server is used at all, `address.py` and `token.py` read where it is and what lets us in;
`engine.py` is the engine, on top of `connection.py` (HTTP) and `protocol.py` (what the messages are).
"""

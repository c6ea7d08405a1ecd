"""`dalle serve`: the images API of OpenAI, spoken by this machine.

A request's way: connections.py and guard.py let it in, body.py reads it, translate.py makes values of it for the one
builder of requests, painter.py paints what queue.py says is next, and answer.py or stream.py sends it back.
"""

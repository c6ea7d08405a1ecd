"""Painting on a Ray cluster: workers around the engine of each machine, and a driver that alone writes.

`connection.py` is all that knows Ray, `worker.py` what runs elsewhere, `order.py` what is said between the two.
`pool.py` keeps the workers, `dispatch.py` hands out work and decides what a loss means. On top of it are two faces:
`executor.py` for prompt files, and `engine.py` for everything else.
"""

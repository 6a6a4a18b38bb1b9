"""Real parts: the event store, read models, object store, queue and servers, wired in `bootstrap.py`."""

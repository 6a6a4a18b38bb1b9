"""Who is let in: rate limits for each device, a limit of requests at once that adapts, and whom to send away first.

`Admission` (admission.py) is the door; `gcra.py` and `concurrency.py` are the arithmetic, without clock or loop.
"""

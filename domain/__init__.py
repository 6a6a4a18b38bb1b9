"""The rules of running: facts, decisions, refusals. No I/O, no clock, no randomness."""

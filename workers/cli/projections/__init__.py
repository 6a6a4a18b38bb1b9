"""`cairn projections`: how data shapes change in flight.

`command.py` has the group: `looking.py` says how builds are, `rebuilding.py` fills them, `exchanging.py` compares
them and says which one is read, `mending.py` is for keys and streams that fail. All work with `tools.py`, and tell a
person in `lines.py`.
"""

"""`cairn import`: recorded files, folders of them, and the exports of other services, into an account.

`command.py` is the command; `sources.py` finds what there is to bring, with `strava.py`, `garmin.py` and `runkeeper.py`
for exports, in what `files.py` says: zips of strangers (`archives.py`), or what lies on the disk (`folders.py`);
`sending.py` brings one recording to its verdict; `journal.py` remembers what is done, `report.py` tells of it.
"""

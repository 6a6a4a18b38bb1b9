"""The event store: group commit and loads (`log`), fenced reads and scans (`reader`), sealing (`mapper`, `keys`), the
write port (`streams`), and the library's own face of it (`library`).
"""

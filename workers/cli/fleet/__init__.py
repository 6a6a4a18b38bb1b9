"""`cairn fleet`: many apps at once, well-behaved and not, against a running instance."""

"""The `cairn` command: a module for each group of commands."""

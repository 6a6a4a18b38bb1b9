"""`cairn bench`: our figures and their references, measured in turns on one server in one run."""

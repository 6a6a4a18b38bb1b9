"""The HTTP face: parse, transact or query, answer."""

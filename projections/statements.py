"""Statements over a projection's tables, in the schema of one version."""

from functools import cache
from typing import LiteralString

from psycopg.sql import SQL, Identifier


@cache
def statement(schema: str, text: LiteralString) -> bytes:
    """The statement with `{s}` replaced by the schema. Made once: putting it together takes longer than asking."""
    return SQL(text).format(s=Identifier(schema)).as_bytes(None)

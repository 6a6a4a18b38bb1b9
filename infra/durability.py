"""That what was acked is on the disk, whatever becomes of the server's settings meanwhile."""

from typing import Final, LiteralString

# To be run where a connection that acks begins: `off` is not for it, and anything stronger stays. Set for the session,
# it is not changed by `ALTER SYSTEM` and a reload, which `infra.server_checks` would see only after the next acks.
DURABLE: Final[LiteralString] = """
    SELECT set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false)
"""

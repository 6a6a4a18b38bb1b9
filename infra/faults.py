"""What a person can mend: told in one line on the command line, without a traceback."""


class Fault(Exception):
    """Something outside the code is not as it must be. The message says what, and what to do."""

"""What a user asked for and cannot have."""


class UsageError(ValueError):
    """A wrong argument; its message is the one line that the command line shows."""

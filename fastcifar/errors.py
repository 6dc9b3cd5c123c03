"""The two ways a command ends badly: the user's input was wrong, or the run failed."""


class InputError(Exception):
    """Bad input: one line that says what was wrong, where, and what to do. Exit code 2."""


class RunError(Exception):
    """A run that started well and failed: one line that says when and why. Exit code 1."""

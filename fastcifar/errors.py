"""The ways a command ends badly: the user's input was wrong, the run failed, or it was told to stop."""


class InputError(Exception):
    """Bad input: one line that says what was wrong, where, and what to do. Exit code 2."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end: Ctrl-C, `kill`, a closed terminal."""

    def __init__(self, signal: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + signal


class RunError(Exception):
    """A run that started well and failed: one line that says when and why. Exit code 1."""

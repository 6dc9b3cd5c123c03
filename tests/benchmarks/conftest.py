import pytest


@pytest.fixture(autouse=True)
def the_process_stays_pytests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, called here and not as a program, takes no signal from the tests that come after."""
    monkeypatch.setattr("benchmarks.__main__.end_on_signals", lambda: None)

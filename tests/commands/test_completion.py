"""What bash completes, asked of bash."""

import shutil
import subprocess

import pytest

from fastcifar.commands import main
from fastcifar.commands.completion import script

BASH = shutil.which("bash")


def completed(*words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    assert BASH is not None
    asked = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fastcifar; printf "%s\\n" "${COMPREPLY[@]}"'
    program = f"{script('bash')}\n{asked}"
    done = subprocess.run([BASH, "-c", program, "bash", *words], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(BASH is None, reason="no bash here")
def test_what_bash_offers() -> None:
    assert {"train", "bench", "report", "--version"} <= set(completed("fastcifar", ""))
    assert completed("fastcifar", "tr") == ["train"]
    assert completed("fastcifar", "train", "--schedule.ma") == ["--schedule.max-lr"]
    assert {"sprint90", "seed"} <= set(completed("fastcifar", "train", "--recipe", ""))
    assert completed("fastcifar", "recipe", "lap") == ["laptop"]
    assert completed("fastcifar", "train", "--loader", "d") == ["dali"]
    assert completed("fastcifar", "bench", "acc") == ["accuracy"]
    assert completed("fastcifar", "bench", "accuracy", "--prot") == ["--protocol"]
    assert completed("fastcifar", "bench", "--batch") == ["--batch-size"]
    assert completed("fastcifar", "bench", "accuracy", "--protocol", "fix") == ["fixed-budget"]
    assert completed("fastcifar", "summary", "--wid") == ["--width"]
    assert completed("fastcifar", "report", "no-flag") == []  # bash then offers files
    assert completed("fastcifar", "nosuch", "--") == []


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out.rstrip() == script("bash").rstrip()
    assert script("zsh").endswith(script("bash"))
    assert script("zsh").startswith("autoload")

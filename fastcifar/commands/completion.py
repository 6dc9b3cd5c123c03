"""`fastcifar completion`: what a shell needs to complete subcommands, flags and the names that flags take."""

from typing import Annotated, Literal, get_args, get_origin

from tyro.conf import Positional, arg

from fastcifar.commands.command import COMMANDS, GROUPS, Command, command
from fastcifar.commands.parse import HELP, flags_of
from fastcifar.recipe.files import shipped_recipes
from fastcifar.report.console import Console

_SCRIPT = """\
_fastcifar_words() {{
    case "$1" in
{words}
    esac
}}
_fastcifar_values() {{
    case "$1" in
{values}
    esac
}}
_fastcifar() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" of="" words
    (( COMP_CWORD > 1 )) && of="${{COMP_WORDS[1]}}"
    case " {groups} " in
        *" $of "*) (( COMP_CWORD > 2 )) && [[ "${{COMP_WORDS[2]}}" != -* ]] && of="$of ${{COMP_WORDS[2]}}" ;;
    esac
    words="$(_fastcifar_values "$before")"
    [[ -n "$words" ]] || words="$(_fastcifar_words "$of")"
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _fastcifar fastcifar
"""


@command("completion")
class Completion(Command):
    """Print a script that completes fastcifar's commands and flags in your shell."""

    shell: Annotated[Literal["bash", "zsh"], Positional, arg(metavar="bash|zsh")]
    """The shell; in its start-up file, write: source <(fastcifar completion bash), or zsh."""

    def run(self, console: Console) -> None:
        """Print it."""
        console.out(script(self.shell).rstrip(), highlight=False)


def script(shell: Literal["bash", "zsh"]) -> str:
    """Functions of bash, which zsh takes too after `bashcompinit`; no file is read and no Python started by them."""
    words = {"": [*dict.fromkeys(name.partition(" ")[0] for name in COMMANDS), "--version", "--debug"]}
    recipes = list(shipped_recipes())
    values = {"--recipe": recipes, "recipe": recipes}  # after the flag, and after the subcommand
    for name, kind in COMMANDS.items():
        flags = dict(flags_of(kind))
        words[name] = sorted({*flags, *HELP[1:]})
        values |= {flag: list(get_args(of)) for flag, of in flags.items() if get_origin(of) is Literal}
    for group in GROUPS:
        inside = [name.removeprefix(f"{group} ") for name in COMMANDS if name.startswith(f"{group} ")]
        words[group] = [*inside, *words.get(group, ())]
    made = _SCRIPT.format(words=_cases(words), values=_cases(values), groups=" ".join(GROUPS))
    zsh = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
    return zsh + made if shell == "zsh" else made


def _cases(table: dict[str, list[str]]) -> str:
    """The branches of a `case`, one for each key, that print its words: names, which no shell reads otherwise."""
    return "\n".join(f'        "{key}") echo "{" ".join(words)}" ;;' for key, words in table.items())

"""Completion in the shell: the script to load, and the names of the running tree.

The shells ask through click's protocol. Bash is met with a script of our own, because bash breaks words at
`@` and `:`, which names of instances hold (`pool/w@1`): we read the line itself and answer with what is
behind the last break. A tree that does not answer at once has no names: completion never makes anybody wait,
and never complains.
"""

import os
from contextlib import closing
from typing import ClassVar

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from daedalus.cli.ctl.connection import Connection, Refused
from daedalus.cli.ctl.options import Options, example, global_options
from daedalus.cli.ctl.output import say

__all__ = ["completion", "install", "tree_names"]

ANSWER_S = 1.0
PROGRAM = "daedalus-ctl"
SHELLS = ("bash", "zsh", "fish")


class Bash(ShellComplete):
    """Bash 4.4 and later."""

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=',' read -r kind value; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def _line(self) -> str:
        line = os.environ["COMP_LINE"]
        return line[: int(os.environ.get("COMP_POINT", len(line)))]

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one at the cursor, and what there is of that one."""
        line = self._line()
        words = split_arg_string(line)[1:]
        if not words or line[-1:].isspace():
            return words, ""
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return one answer, without what bash takes for words of their own."""
        _, incomplete = self.get_completion_args()
        line = self._line()
        quoted = line.count("'") % 2 or line.count('"') % 2
        breaks = "" if quoted else os.environ.get("COMP_WORDBREAKS", "").strip("\"' \t\n")
        behind = max((incomplete.rfind(sign) + 1 for sign in breaks), default=0)
        head = incomplete[:behind]
        return f"{item.type},{item.value.removeprefix(head) if item.type == 'plain' else item.value}"


def install() -> None:
    """Take the place of click's own script for bash."""
    add_completion_class(Bash)


@click.command(epilog=example('eval "$(daedalus-ctl completion bash)"'))
@click.argument("shell", type=click.Choice(SHELLS))
@global_options
def completion(options: Options, shell: str) -> None:
    """Print the completion script of a shell: commands, options, and actors of the running tree.

    For good, put the example's line into ~/.bashrc (zsh: ~/.zshrc; fish: daedalus-ctl completion fish |
    source in ~/.config/fish/config.fish).
    """
    del options
    install()
    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    say(found(root, {}, PROGRAM, f"_{PROGRAM.upper().replace('-', '_')}_COMPLETE").source())


def tree_names(context: click.Context, parameter: str, incomplete: str) -> list[CompletionItem[str]]:
    """Return the names of actors and groups (of groups alone for `group`) that begin like this."""
    options = Options()
    for level in (context.find_root(), context):
        options.socket = level.params.get("global_socket") or options.socket
        options.runtime = level.params.get("global_runtime") or options.runtime
    try:
        with closing(Connection(options, answer_s=ANSWER_S)) as connection:
            document = connection.call("status", {}, ANSWER_S, margin_s=0.0)
    except Refused:
        return []
    groups = [group["name"] for group in document["groups"]]
    if parameter == "group":
        names = groups
    else:
        actors = [actor["name"] for actor in document["actors"]]
        bare = [name.rpartition("/")[2] for name in actors] if incomplete and "/" not in incomplete else []
        unique = [name for name in bare if bare.count(name) == 1 and name not in groups]
        names = [*groups, *actors, *unique, *(["all"] if parameter == "names" else [])]
    given = context.params.get("names") or ()
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name not in given]

"""Completion scripts for three shells, from what the commands' parsers say. Pure text.

A remote is completed as far as it is on this machine: ``oci:`` and ``oci-archive:``, then paths. A
registry is asked for nothing while somebody types.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from multi_fetch.cli.completion import Command, Slot, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REMOTES: Final = ("oci:", "oci-archive:")

BASH_FILES: Final = """\
_multi_fetch_files() {
    compopt -o filenames 2>/dev/null
    local IFS=$'\\n'
    COMPREPLY=($(compgen "$1" -- "$2"))
}
"""

# bash takes "oci:images" for three words, "oci", ":" and "images", and "--flag=x" for three too.
BASH_HEAD: Final = """\
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} before=""
    COMPREPLY=()
    if [[ $cur == : || $cur == = ]]; then
        before=$prev$cur cur=""
    elif [[ ($prev == : || $prev == =) && $COMP_CWORD -gt 1 ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}$prev
    fi
    [[ $before == *= ]] && prev=${before%=}
"""

ZSH_REMOTE: Final = """\
_multi_fetch_remote() {
  if compset -P 'oci:'; then
    _files -/
  elif compset -P 'oci-archive:'; then
    _files
  else
    compadd -S '' -- oci: oci-archive:
    (( ! $# )) || compadd -- "$@"
  fi
}
"""

FISH_REMOTE: Final = """\
function __multi_fetch_remotes
    set -l word (commandline -ct)
    if string match -q 'oci:*' -- $word
        __fish_complete_directories (string replace oci: '' -- $word) | string replace -r '^' oci:
    else if string match -q 'oci-archive:*' -- $word
        __fish_complete_path (string replace oci-archive: '' -- $word) \\
            | string replace -r '^' oci-archive:
    else
        printf '%s\\n' oci: oci-archive:
    end
end
"""


def bash(commands: Sequence[Command]) -> str:
    """The script for bash, from version 3.2 on."""
    parts = [BASH_FILES, *map(_bash_function, commands)]
    parts += [
        f"complete -F {_function(each.name)} {each.name}" for each in commands if _is_own(each)
    ]
    return "\n".join([*parts, ""])


def _bash_function(command: Command) -> str:
    lines = [f"{_function(command.name)}() {{", BASH_HEAD.rstrip()]
    if command.inner:
        lines += [
            f"    if [[ $COMP_CWORD -gt 1 && ${{COMP_WORDS[1]}} == {word} ]]; then"
            f" {_function(f'{command.name} {word}')}; return; fi"
            for word in command.inner
        ]
    lines.append("    case $prev in")
    lines += [
        f"        {'|'.join(slot.names)}) {_bash_value(slot)}; return ;;"
        for slot in command.flags
        if slot.value is not Value.NONE
    ]
    names = " ".join(name for slot in command.flags for name in slot.names)
    lines += [
        "    esac",
        "    if [[ $cur == -* ]]; then",
        f'        COMPREPLY=($(compgen -W "{names}" -- "$cur"))',
        "        return",
        "    fi",
        *_bash_positionals(command),
        "}\n",
    ]
    return "\n".join(lines)


def _bash_value(slot: Slot) -> str:
    if slot.value is Value.CHOICE:
        return f'COMPREPLY=($(compgen -W "{" ".join(slot.choices)}" -- "$cur"))'
    if slot.value in {Value.FILE, Value.FOLDER}:
        return f'_multi_fetch_files {"-f" if slot.value is Value.FILE else "-d"} "$cur"'
    return ":"


def _bash_positionals(command: Command) -> Iterator[str]:
    words = [*command.inner]
    for slot in command.positionals:
        words += slot.choices
        if slot.value is Value.REMOTE:
            words += REMOTES
            yield "    case $before in"
            yield '        oci:) _multi_fetch_files -d "$cur"; return ;;'
            yield '        oci-archive:) _multi_fetch_files -f "$cur"; return ;;'
            yield "    esac"
    if words:
        yield f'    COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur"))'
        if command.positionals[0].value is Value.REMOTE:
            yield "    [[ ${COMPREPLY[0]} == *: ]] && compopt -o nospace 2>/dev/null"
            yield "    return 0"


def zsh(commands: Sequence[Command]) -> str:
    """The script for zsh: to be sourced behind compinit, or a file ``_multi-fetch`` in $fpath."""
    own = [each.name for each in commands if _is_own(each)]
    parts = [f"#compdef {' '.join(own)}\n", ZSH_REMOTE, *map(_zsh_function, commands)]
    parts += [f"compdef {_function(name)} {name}" for name in own]
    # As a file of $fpath it is itself the function of whatever command was completed first.
    parts += ['[[ $funcstack[1] == _multi-fetch ]] && "_${service//-/_}"', "true", ""]
    return "\n".join(parts)


def _zsh_function(command: Command) -> str:
    lines = [f"{_function(command.name)}() {{"]
    lines += [
        f"  if (( CURRENT > 2 )) && [[ $words[2] == {word} ]]; then shift words; (( CURRENT-- ));"
        f" {_function(f'{command.name} {word}')}; return; fi"
        for word in command.inner
    ]
    specs = [_zsh_flag(slot) for slot in command.flags]
    specs += [
        f"{number}:{slot.title}:{_zsh_action(slot, command.inner)}"
        for number, slot in enumerate(command.positionals, 1)
    ]
    lines.append("  _arguments \\")
    lines += [f"    {shlex.quote(spec)} \\" for spec in specs[:-1]]
    return "\n".join([*lines, f"    {shlex.quote(specs[-1])}", "}\n"])


def _zsh_flag(slot: Slot) -> str:
    name = slot.names[-1]
    words = _zsh_quoted(slot.words)
    if slot.value is Value.NONE:
        return f"{name}[{words}]"
    return f"{name}=[{words}]:{slot.title}:{_zsh_action(slot, ())}"


def _zsh_action(slot: Slot, inner: Sequence[str]) -> str:
    match slot.value:
        case Value.CHOICE:
            return f"({' '.join(slot.choices)})"
        case Value.FILE:
            return "_files"
        case Value.FOLDER:
            return "_files -/"
        case Value.REMOTE:
            return " ".join(["_multi_fetch_remote", *inner])
        case _:
            return " "


def _zsh_quoted(words: str) -> str:
    return "".join(f"\\{letter}" if letter in "[]:\\" else letter for letter in words)


def fish(commands: Sequence[Command]) -> str:
    """The script for fish, from version 3.0 on."""
    parts = [FISH_REMOTE]
    parts += [f"complete -c {each.name} -f" for each in commands if _is_own(each)]
    for command in commands:
        parts += _fish_lines(command)
    return "\n".join([*parts, ""])


def _fish_lines(command: Command) -> Iterator[str]:
    name, _, word = command.name.partition(" ")
    condition = ""
    if word:
        condition = f" -n '__fish_seen_subcommand_from {word}'"
    elif command.inner:
        condition = f" -n 'not __fish_seen_subcommand_from {' '.join(command.inner)}'"
        yield f"complete -c {name} -n '__fish_is_first_token' -a '{' '.join(command.inner)}'"
    for slot in command.flags:
        names = "".join(
            f" -l {each[2:]}" if each.startswith("--") else f" -s {each[1:]}" for each in slot.names
        )
        yield f"complete -c {name}{condition}{names}{_fish_value(slot)} -d {_fish_quoted(slot)}"
    for slot in command.positionals:
        if slot.value is Value.REMOTE:
            yield f"complete -c {name}{condition} -a '(__multi_fetch_remotes)'"
        elif slot.choices:
            yield f"complete -c {name}{condition} -a '{' '.join(slot.choices)}'"


def _fish_value(slot: Slot) -> str:
    match slot.value:
        case Value.NONE:
            return ""
        case Value.CHOICE:
            return f" -x -a '{' '.join(slot.choices)}'"
        case Value.FILE:
            return " -r -F"
        case Value.FOLDER:
            return " -x -a '(__fish_complete_directories)'"
        case _:
            return " -x"


def _fish_quoted(slot: Slot) -> str:
    return "'" + slot.words.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _function(name: str) -> str:
    return "_" + name.replace("-", "_").replace(" ", "_")


def _is_own(command: Command) -> bool:
    """Whether it is a program, and no word behind one."""
    return " " not in command.name

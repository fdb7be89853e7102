"""Flags as Go takes them: one dash or two, `-flag value` or `-flag=value`.

argparse keeps the flags, their types and the help. The arguments are put into its
strictest form first, because left alone it reads `-mesage=x` as `-m` with the value
`esage=x`, and has no `-switch=false`.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from typing_extensions import override

TRUE_WORDS: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE_WORDS: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_HELP: Final = frozenset({"h", "help"})


class UsageError(Exception):
    """The arguments cannot be used; the text says which and why."""


class HelpWantedError(Exception):
    """The arguments ask for help instead."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving the process."""

    @override
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class Flags:
    """The flags and arguments of one command."""

    def __init__(self, command: str, synopsis: str, example: str) -> None:
        self._parser = _Parser(
            prog=f"nodestate {command}",
            usage=f"nodestate {command} [options]",
            description=synopsis,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        self._switches: set[str] = set()
        self._valued: set[str] = set()

    def switch(self, name: str, text: str) -> None:
        """Declare a flag that is on or off, and off unless given."""
        self._switches.add(name)
        self._parser.add_argument(f"-{name}", action="store_true", help=text)

    def value(
        self,
        name: str,
        metavar: str,
        text: str,
        *,
        default: Any = None,
        kind: Callable[[str], Any] = str,
    ) -> None:
        """Declare a flag with a value."""
        self._valued.add(name)
        self._parser.add_argument(
            f"-{name}", metavar=metavar, type=kind, default=default, help=text
        )

    def pairs(self, name: str, text: str) -> None:
        """Declare a flag with `key=value` that may be given many times."""
        self._valued.add(name)
        self._parser.add_argument(
            f"-{name}",
            metavar="<key>=<value>",
            type=_pair,
            action="append",
            default=[],
            help=text,
        )

    def texts(self, name: str, text: str) -> None:
        """Declare a flag with a value that may be given many times."""
        self._valued.add(name)
        self._parser.add_argument(
            f"-{name}", metavar="<value>", action="append", default=[], help=text
        )

    def arguments(self, metavar: str) -> None:
        """Take what is no flag, as a list called `arguments`."""
        self._parser.usage = f"{self._parser.usage} {metavar}".rstrip()
        self._parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)

    def help(self) -> str:
        """Return the help text."""
        return self._parser.format_help().rstrip("\n")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the values by name; raises `UsageError`, `HelpWantedError`."""
        return self._parser.parse_args(self._strict(arguments))

    def _strict(self, arguments: Sequence[str]) -> list[str]:
        """Return the flags as `-name` or `-name=value`, then the rest behind `--`."""
        flags: list[str] = []
        rest: list[str] = []
        remaining = list(arguments)
        while remaining:
            word = remaining.pop(0)
            if word == "--":
                rest += remaining
                break
            if word == "-" or not word.startswith("-"):
                rest.append(word)
                continue
            name, has_value, value = (
                word.removeprefix("-").removeprefix("-").partition("=")
            )
            if name in self._switches:
                is_on = self._is_on(name, value) if has_value else True
                flags = [flag for flag in flags if flag != f"-{name}"]
                flags += [f"-{name}"] if is_on else []
            elif name in self._valued:
                if not has_value:
                    value = remaining.pop(0) if remaining else "--"
                if value == "--":  # argparse would lose it
                    raise UsageError(f"flag needs an argument: -{name}")
                flags.append(f"-{name}={value}")
            elif name in _HELP:
                raise HelpWantedError
            else:
                raise UsageError(f"flag provided but not defined: -{name}")
        return [*flags, "--", *rest] if rest else flags

    def _is_on(self, name: str, value: str) -> bool:
        if value in TRUE_WORDS:
            return True
        if value in FALSE_WORDS:
            return False
        raise UsageError(f'invalid boolean value "{value}" for -{name}')


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value

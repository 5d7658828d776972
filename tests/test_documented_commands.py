"""The commands in the documentation: the real parsers accept them, and their configs load."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import tomllib

import pytest

from mossformer_jax.cli import make_parser
from mossformer_jax.cli.arguments import is_override
from mossformer_jax.training.configuration import load_config, resolve
from tests.conftest import REPOSITORY
from tests.documents import PAGES, commands, inline_code

COMMANDS = list(commands())
SCRIPTS = {"train.py": "train", "eval.py": "evaluate", "convert_torch_weights.py": "convert"}
# Options of other programs.
FOREIGN = {"--logdir", "--requeue", "--fast-compiler", "--durations"}
# A field that a sentence names must be in one of these.
CONFIGS = ("libri2mix", "libri2mix:dynamic", "own_data:csv", "default_8k", "demo")
PLACEHOLDERS = {"N": "2", "VALUE": "1"}


@pytest.mark.medium
@pytest.mark.parametrize("command", COMMANDS, ids=map(str, COMMANDS))
def test_the_commands_in_code_blocks_are_valid(command):
    program, *arguments = command.words
    if program == "mossformer-jax":
        check_product(arguments)
    elif program == "make":
        assert {word for word in arguments if "=" not in word} <= make_targets()
    elif program == "bash":
        check_shell_script(arguments)
    elif program == "python" and arguments[0] in SCRIPTS:
        check_product([SCRIPTS[arguments[0]], *arguments[1:]])
    elif "pip" in (program, *arguments[:2]):
        check_extras(arguments)
    elif program in ("python", ".venv/bin/python"):
        check_python(arguments)


def test_there_are_commands_of_every_kind():
    found = {command.words[1] for command in COMMANDS if command.words[0] == "mossformer-jax"}
    assert found == set(subparsers())
    assert len(COMMANDS) > 60


def check_product(arguments: list[str]) -> None:
    """Parses the arguments of mossformer-jax, and loads the config with its overrides."""
    if arguments[:1] == ["train"] and "--config" not in arguments:  # shortened by "..."
        arguments = [*arguments, "--config", "libri2mix"]
    options, overrides = make_parser().parse_known_args(arguments)
    assert all(map(is_override, overrides)), overrides
    assert not overrides or hasattr(options, "takes_overrides")
    if (config := getattr(options, "config", None)) or overrides:
        resolve(load_config(config or "demo", overrides))


def check_shell_script(arguments: list[str]) -> None:
    """The kit for GPU machines is packed from tools/gpu into .gpu/kit; its train.sh takes overrides."""
    script, *rest = arguments
    assert (REPOSITORY / script.replace(".gpu/kit", "tools/gpu")).is_file()
    resolve(load_config("default_8k", [argument for argument in rest if argument.startswith("--")]))


def check_extras(arguments: list[str]) -> None:
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for argument in arguments:
        for extras in re.findall(r"^(?:mossformer-jax|\.)\[(.*)\]$", argument):
            assert set(extras.split(",")) <= set(known)
        assert not argument.endswith(".txt") or (REPOSITORY / argument).is_file()


def check_python(arguments: list[str]) -> None:
    """A module or script of the repository, whose source has the options."""
    if arguments[0] == "-m":
        spec = importlib.util.find_spec(arguments[1])
        assert spec is not None
        source, arguments = str(spec.origin), arguments[2:]
        if "pytest" in source:
            return
    else:
        source, arguments = str(REPOSITORY / arguments[0]), arguments[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    for argument in arguments:
        assert not argument.startswith("--") or f'"{argument.partition("=")[0]}"' in text, argument


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.M))


def subparsers(parser: argparse.ArgumentParser | None = None) -> dict[str, argparse.ArgumentParser]:
    for action in (parser or make_parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def known_options() -> set[str]:
    """The options of all subcommands, and of the scripts in tools/, benchmarks/ and the package."""
    parsers = list(subparsers().values())
    parsers += [inner for parser in parsers for inner in subparsers(parser).values()]
    names = {name for parser in parsers for action in parser._actions for name in action.option_strings}
    for folder in ("tools", "benchmarks", "mossformer_jax/data", "tests/parity"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            names |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', file.read_text("utf-8")))
    return names


@pytest.mark.medium
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_the_options_in_sentences_exist(page):
    known = known_options() | FOREIGN
    for line, code in inline_code(page):
        if code.startswith(("mossformer-jax ", "python ", "make ")):
            check_mentioned(code)
        for word in code.split():
            name = re.match(r"--[a-z][a-z-]*(?=[=\s,]|$)", word)
            assert not name or name[0] in known, f"{page.name}:{line}: {word}"
            if word.startswith("--config."):
                assert is_field(word), f"{page.name}:{line}: {word}"


def check_mentioned(code: str) -> None:
    """A command that a sentence names need not be complete, but its program and its options must exist."""
    program, *words = shlex.split(code)
    if program == "make":
        assert set(words) <= make_targets(), code
    elif program == "python":
        assert words[0] == "-m" or (REPOSITORY / words[0]).is_file(), code
    else:
        parser = subparsers()[words[0]]
        if words[0] == "data" and len(words) > 1:
            parser = subparsers(parser)[words[1]]
        names = {name for action in parser._actions for name in action.option_strings}
        given = {word.partition("=")[0] for word in words if word.startswith("--") and not is_override(word)}
        assert given <= names, code


def is_field(word: str) -> bool:
    """Whether --config.NAME or --config.NAME=VALUE fits one of the configs."""
    if word == "--config.NAME=VALUE" or ".NAME=" in word:
        return True
    name, equals, value = word.rstrip(",").partition("=")
    for config in CONFIGS:
        try:
            load_config(config, [f"{name}={PLACEHOLDERS.get(value, value) if equals else 'None'}"])
        except ValueError:
            continue
        return True
    return False

"""What the shells complete: commands, presets, files, keys, and the groups and keys of a config."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from applications import write_configs
from click.testing import CliRunner

from initplug.cli.commands import commands
from initplug.language.preset_list import presets

CONFIG = ["--config-dir", "conf", "--config-name", "config"]

WRN = ["wrn_fan_out", "wrn_lua", "wrn_meliketoy", "wrn_pytorch"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completed")
    write_configs(folder / "conf")
    return folder


def offered(*words: str) -> list[str]:
    """What bash is offered for the last of these words."""
    line = " ".join(["initplug", *words])
    variables = {"_INITPLUG_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    done = CliRunner().invoke(commands, [], prog_name="initplug", env=variables)
    return [text for kind, _, text in (each.partition(",") for each in done.output.splitlines()) if kind == "plain"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sh"], ["show"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["show", "wrn_"], WRN),
        (["plan", "torch.nn:Linear", "torch_"], ["torch_default", "torch_default_strict"]),
        (["plan", "--str"], ["--strict"]),
        (
            ["show", "wrn", "rules.conv_bias."],
            ["rules.conv_bias.match=", "rules.conv_bias.init=", "rules.conv_bias.optional="],
        ),
        (["show", "resnext", "rules.bn=null", "rules.conv.init.m"], ["rules.conv.init.mode="]),
        (["plan", "torch.nn:Linear", "wrn", "unm"], ["unmatched="]),
        (
            ["show", *CONFIG, "init=wrn_"],
            [f"init={name}" for name in WRN],
        ),
        (["show", *CONFIG, "init=mine", "init.rules.head.init.s"], ["init.rules.head.init.std="]),
        (["plan", *CONFIG, "wid"], ["width="]),
        (["show", "no_such_preset"], []),
        (["show", "no_such_preset", "rules."], []),
        (["show", "--config-dir", "nowhere", "--config-name", "config", "init="], []),
        (["show", "resnext", "rules.nope=3", "rules."], []),
    ],
    ids=" ".join,
)
def test_words_are_completed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str] | None, expected: list[str]
) -> None:
    monkeypatch.chdir(folder)
    assert offered(*(words or [])) == expected


def test_every_preset_is_offered() -> None:
    assert offered("show", "") == presets()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(shell: str) -> None:
    done = CliRunner().invoke(commands, ["completion", shell])
    assert done.exit_code == 0
    assert f"_INITPLUG_COMPLETE={shell}_complete" in done.stdout
    assert ("compadd -U -S ''" in done.stdout) == (shell == "zsh")


def test_an_unknown_shell_is_wrong_usage() -> None:
    assert CliRunner().invoke(commands, ["completion", "csh"]).exit_code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_its_script_and_keeps_overrides_whole(folder: Path) -> None:
    script = f"""
eval "$(initplug completion bash)"
complete -p initplug
[[ $COMP_WORDBREAKS == *=* ]] && echo "breaks at ="
compopt() {{ echo "without a space"; }}
COMP_WORDS=(initplug show {" ".join(CONFIG)} init.rules.conv.init.m) COMP_CWORD=6
_initplug_completion initplug
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-c", script]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _initplug_completion initplug",
        "without a space",
        "init.rules.conv.init.mode=",
    ]


def said_by(shell: list[str], script: str, folder: Path) -> list[str]:
    """The lines that a shell prints, `initplug` being that of the tests."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [*shell, "-c", script]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_takes_its_script_and_leaves_keys_open(folder: Path) -> None:
    # Its own functions of completion work on a terminal alone: what they are called with is what counts.
    script = """
compdef() { print -r -- compdef $* }
compadd() { print -r -- ${@[1,-3]} ${(P)@[-1]} }
eval "$(initplug completion zsh)"
words=(initplug show resnext rules.conv.init.mo) CURRENT=4
_initplug_completion
words=(initplug show wrn_f) CURRENT=3
_initplug_completion
"""
    assert said_by(["zsh", "-f"], script, folder) == [
        "compdef _initplug_completion initplug",
        "-U -S -V unsorted rules.conv.init.mode=",
        "-U -V unsorted wrn_fan_out",
    ]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_takes_its_script(folder: Path) -> None:
    script = """
initplug completion fish | source
complete -C "initplug show wrn_f"
complete -C "initplug show resnext rules.conv.init.mo"
"""
    assert [line for line in said_by(["fish", "--no-config"], script, folder) if line] == [
        "wrn_fan_out",
        "rules.conv.init.mode=",
    ]

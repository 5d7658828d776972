"""The command as a whole: usage, version, help."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mossformer_jax import __version__
from mossformer_jax.cli import main
from mossformer_jax.cli.arguments import METRICS_HELP
from mossformer_jax.scoring.metrics import METRICS


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["separate"], ["separate", "a.wav", "--subtype", "MP3"]])
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: mossformer-jax" in capsys.readouterr().err


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"mossformer-jax {__version__}\n"


@pytest.mark.medium
def test_separation_and_training_start_without_the_large_packages_of_scipy():
    """They take 1 to 1.5 s to import, and most commands do not use them."""
    script = """
import sys
import mossformer_jax.separation, mossformer_jax.training.loop
print("imported:", sys.modules.keys() & {"scipy.optimize", "scipy.signal", "scipy.stats"})
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "imported: set()\n"


def test_help_does_not_import_jax():
    script = """
import sys
from mossformer_jax.cli import main
try:
    main(["separate", "--help"])
finally:
    print("imported:", "jax" in sys.modules or "numpy" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "usage: mossformer-jax separate" in ran.stdout
    assert ran.stdout.endswith("imported: False\n")


@pytest.mark.parametrize(("text", "message"), [("x", "'x' is not a whole number"), ("0", "0 must be 1 or more")])
def test_an_invalid_number_is_named_in_the_usage_error(text, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "inspect", "--config", "configs/demo.py", "--measure", text])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


def test_help_names_all_metrics():
    assert METRICS_HELP.startswith(f"some of {', '.join(METRICS)}, separated")

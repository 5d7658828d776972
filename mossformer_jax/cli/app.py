"""`mossformer-jax app`: a page in the browser, served from this machine, that separates with any model."""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

from mossformer_jax.cli.arguments import whole_number

EXAMPLES = """\
examples:
  mossformer-jax app
  mossformer-jax app --model runs/libri2mix --port 7861 --max-upload 500

The page is reached from this machine only. docs/deployment.md describes it.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "app",
        help="separate in a page of the browser, with any model",
        description="Opens a page on this machine that separates uploaded or recorded audio.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="default", help="model chosen at first (default: %(default)s)")
    add("--port", type=whole_number(1), help="default: the first free one from 7860")
    add("--max-upload", type=whole_number(1), default=200, metavar="MB", help="largest file (default: %(default)s)")
    parser.set_defaults(run=_app, extras="demo")


def _app(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="mossformer-jax-") as folder:
        # Gradio reads these variables when it is imported.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = os.path.join(folder, "uploads")
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            from mossformer_jax.cli.app_page import launch

            launch(options.model, port=options.port, max_upload=options.max_upload * 1_000_000)
        finally:
            tempfile.tempdir = before  # this folder is about to be deleted
    return 0

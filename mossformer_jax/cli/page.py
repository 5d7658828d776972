"""`mossformer-jax page`: a page that separates recordings in the browser."""

from __future__ import annotations

import argparse
import gzip
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mossformer_jax.cli.arguments import whole_number

EXAMPLES = """\
examples:
  mossformer-jax page site
  mossformer-jax page site --model runs/libri2mix --overwrite
  mossformer-jax page site --serve 8000

The folder works on any static web server; docs/deployment.md describes the page.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "page",
        help="write a page that separates recordings in the browser",
        description="Writes a static page that separates recordings in the visitor's browser.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("output", type=Path, help="folder to write")
    add("--model", default="default", help="folder, training run or published name (default: %(default)s)")
    add("--float16", action="store_true", help="store the weights in half precision even if that changes them")
    add(
        "--shifts",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="number of shifted copies to average, each of which takes as long as the first (default: %(default)s)",
    )
    add("--runtime", type=Path, metavar="DIR", help="folder with onnxruntime-web (its dist/)")
    add("--serve", type=whole_number(0), metavar="PORT", help="serve the page on this machine afterwards; 0: any port")
    add("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=_page, extras="onnx")


def _page(options: argparse.Namespace) -> int:
    from mossformer_jax.export.page import find_runtime, write_page
    from mossformer_jax.weights import load_parameters

    folder = options.output
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder")
    if folder.exists() and any(folder.iterdir()) and not options.overwrite:
        raise ValueError(f"{folder}: is not empty; name another folder, or add --overwrite")
    runtime = find_runtime(options.runtime)
    config, parameters = load_parameters(options.model)
    config = config.with_shifts(options.shifts)
    name = Path(options.model).name or options.model
    float16 = True if options.float16 else None
    files = write_page(folder, config, parameters, name, runtime=runtime, float16=float16)
    size = sum(len(gzip.compress(path.read_bytes())) for path in files)
    print(f"wrote    {folder} ({len(files)} files, {size / 1e6:.1f} MB compressed)")
    if options.serve is not None:
        serve(folder, options.serve)
    return 0


class IsolatedHandler(SimpleHTTPRequestHandler):
    """Serves static files with the headers that allow several threads in the browser."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        """Adds the headers."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Prints no line per request."""


def serve(folder: Path, port: int) -> None:
    """Serves a folder on the loopback address until interrupted."""
    handler = partial(IsolatedHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"serving  http://127.0.0.1:{server.server_port}/ (stop with Ctrl-C)", flush=True)
        server.serve_forever()

"""A page that separates recordings in the browser: static files, a model and the ONNX runtime for browsers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mossformer_jax.atomic import write_atomically
from mossformer_jax.export.onnx_model import build_model, fits_float16
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights.parameters import Parameters

_PACKAGE = Path(__file__).parents[1]
# The wheel contains the repository's web/page/ as page/; in a clone it is next to the package.
_SOURCES = (_PACKAGE / "page", _PACKAGE.parent / "web" / "page")
RUNTIME_VERSION = "1.30.0"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_RUNTIME = "runtime"
# The files that the service worker keeps, and their version, are written into these lines.
_NO_VERSION, _NO_FILES = 'const VERSION = "development";', "const FILES = [];"


def page_sources() -> Path:
    """The folder with the static files of the page.

    Raises:
        FileNotFoundError: the package is incomplete.
    """
    for folder in _SOURCES:
        if (folder / "index.html").is_file():
            return folder
    raise FileNotFoundError(f"{_SOURCES[0]}: the files of the page are missing; install the package again")


def find_runtime(folder: Path | None = None) -> Path:
    """The folder with onnxruntime-web.

    Args:
        folder: the `dist` folder of the npm package; None takes the runtime of the package or the clone, or else
            `node_modules` in the current folder.

    Raises:
        FileNotFoundError: it is not there.
    """
    installed = Path("node_modules", "onnxruntime-web", "dist")
    folders = [page_sources() / _RUNTIME, installed] if folder is None else [folder]
    for candidate in folders:
        if all((candidate / name).is_file() for name in RUNTIME_FILES):
            return candidate
    where = "onnxruntime-web was not found" if folder is None else f"{folder}: has no {RUNTIME_FILES[0]}"
    raise FileNotFoundError(
        f"{where}; run: npm install onnxruntime-web@{RUNTIME_VERSION}, and give --runtime {installed.as_posix()}"
    )


def write_page(
    folder: Path, config: ModelConfig, parameters: Parameters, name: str, *, runtime: Path, float16: bool | None = None
) -> list[Path]:
    """Writes the page. All files are static; any web server can serve them.

    Args:
        folder: where to write; it is created.
        config: the model's sizes and options.
        parameters: all parameters and frequency tables, by dotted name.
        name: the model's name, which the page shows.
        runtime: the folder with the files of onnxruntime-web, from `find_runtime`.
        float16: store the weights in half precision; None: if that does not change them.

    Returns:
        The files.

    Raises:
        ValueError: a weight is outside float16's range.
        OSError: a file cannot be written.
    """
    if float16 is None:
        float16 = fits_float16(parameters)
    graph = build_model(config, parameters, float16=float16).SerializeToString()
    description = {
        "name": name,
        "numSources": config.num_sources,
        "sampleRate": config.sample_rate,
        "inputLevelDb": config.input_level_db,
        "minSamples": config.kernel_size,
    }
    contents = {path.name: path.read_bytes() for path in sorted(page_sources().iterdir()) if path.is_file()}
    contents |= {f"{_RUNTIME}/{file}": (runtime / file).read_bytes() for file in RUNTIME_FILES}
    contents |= {"model.onnx": graph, "model.json": json.dumps(description, indent=2).encode()}
    contents["sw.js"] = _with_files(contents)
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / path, content)
    return [folder / path for path in contents]


def _with_files(contents: dict[str, bytes]) -> bytes:
    """The service worker with the list of all files, and a version that changes with any of them."""
    digest = hashlib.sha256()
    for path, content in sorted(contents.items()):
        digest.update(f"{path} {len(content)} ".encode() + content)
    files = ["./", *(path for path in sorted(contents) if path != "sw.js")]
    text = contents["sw.js"].decode()
    for line, value in ((_NO_VERSION, digest.hexdigest()[:16]), (_NO_FILES, files)):
        name = line.split(" = ")[0]
        assert line in text, line
        text = text.replace(line, f"{name} = {json.dumps(value)};")
    return text.encode()

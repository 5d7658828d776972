"""The Gradio page of `mossformer-jax app`."""

from __future__ import annotations

import functools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from mossformer_jax.cli.results import finite
from mossformer_jax.cli.terminal import one_line
from mossformer_jax.separation import SeparatedFile, Separator, separate_file
from mossformer_jax.weights.published import PUBLISHED

# Players of the page; models with more sources are offered as files only.
MAX_PLAYERS = 4
# Recordings that may wait while one is separated.
QUEUE = 8
# Uploads and separated files are deleted after a day, and when the command ends.
KEPT_SECONDS = 24 * 3600
INTRODUCTION = """\
# Separate speakers

Upload or record several people talking at once. Each speaker becomes one file. The separation runs on this machine.
Published models are downloaded on their first use.
"""

_one_at_a_time = threading.Lock()
_PROGRESS = gr.Progress()  # Gradio replaces it in every call


@functools.lru_cache(maxsize=2)
def _separator(model: str) -> Separator:
    return Separator.from_pretrained(model)


def separate(
    path: str | None, model: str, folder: Path, progress: Callable[[float], None] | None = None
) -> tuple[SeparatedFile, Path | None]:
    """Separates a recording into files in a folder.

    Returns:
        The separation, and the picture of the spectrograms; None without matplotlib.

    Raises:
        ValueError, OSError: as `separate_file`; or no recording was chosen.
    """
    if not path:
        raise ValueError("no recording: upload or record one first")
    with _one_at_a_time:
        separator = _separator(model)
    numbers = range(1, separator.config.num_sources + 1)
    outputs = [folder / f"{Path(path).stem}_s{number}.wav" for number in numbers]
    separated = separate_file(separator, path, outputs, progress=progress)
    picture = folder / "spectrograms.png"
    try:
        from mossformer_jax.figures.spectrograms import plot_separation

        plot_separation(picture, path, outputs)
    except ModuleNotFoundError:  # matplotlib is optional
        return separated, None
    return separated, picture


def report(separated: SeparatedFile) -> dict[str, Any]:
    """The figures of a separation, as JSON types."""
    return {
        "duration": separated.duration,
        "sample_rate": separated.sample_rate,
        "gain": separated.gain,
        "run_seconds": round(separated.timings.run_seconds, 2),
        "boundaries": [finite(asdict(boundary)) for boundary in separated.boundaries],
        "warnings": list(separated.warnings),
    }


def _new_folder() -> Path:
    """A folder for the files of a separation. Those of older ones are deleted."""
    parent = Path(tempfile.gettempdir(), "separated")
    parent.mkdir(exist_ok=True)
    for folder in parent.iterdir():
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=parent))


def _answer(path: str | None, model: str, progress: gr.Progress = _PROGRESS) -> list[Any]:
    """What the page shows for a recording."""
    done = 0.0

    def advance(seconds: float) -> None:
        nonlocal done
        done += seconds
        progress((round(done), None), desc="Separating", unit="s")

    progress(0.0, desc="Loading the model")
    folder = _new_folder()
    try:
        separated, picture = separate(path, model, folder, advance)
    except (ValueError, OSError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
        # The name of an upload, not its place in a temporary folder.
        message = one_line(error) if path is None else one_line(error).replace(path, Path(path).name)
        raise gr.Error(message, title="Not separated", print_exception=False) from None
    paths = [str(path) for path in separated.paths]
    players = [
        gr.Audio(paths[index], visible=True) if index < len(paths) else gr.Audio(None, visible=False)
        for index in range(MAX_PLAYERS)
    ]
    return [*players, paths, None if picture is None else str(picture), report(separated)]


def build(model: str) -> gr.Blocks:
    """The page, with this model chosen at first."""
    models = list(dict.fromkeys([model, "default", *PUBLISHED]))
    with gr.Blocks(title="Separate speakers", analytics_enabled=False, delete_cache=(3600, KEPT_SECONDS)) as page:
        gr.Markdown(INTRODUCTION)
        recording = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Recording", buttons=[])
        choice = gr.Dropdown(models, value=model, label="Model")
        button = gr.Button("Separate", variant="primary")
        with gr.Row():
            players = [
                gr.Audio(label=f"Speaker {n + 1}", interactive=False, visible=n < 2, buttons=["download"])
                for n in range(MAX_PLAYERS)
            ]
        files = gr.File(label="Files", file_count="multiple", interactive=False)
        picture = gr.Image(label="Spectrograms", interactive=False, buttons=["download", "fullscreen"])
        figures = gr.JSON(label="Boundaries and warnings")
        button.click(_answer, [recording, choice], [*players, files, picture, figures], api_name="separate")
    return page.queue(max_size=QUEUE, default_concurrency_limit=1)


def launch(model: str, *, port: int | None = None, max_upload: int = 200_000_000) -> None:
    """Serves the page on the loopback address until interrupted.

    Args:
        model: chosen at first.
        port: None takes the first free one from 7860.
        max_upload: largest file, in bytes.

    Raises:
        ValueError, OSError: the model cannot be loaded.
    """
    _separator(model)
    fonts = ["system-ui", "sans-serif"]  # those of the theme come from another host
    page = build(model)
    page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        max_file_size=max_upload,
        ssr_mode=False,
        theme=gr.themes.Default(font=fonts, font_mono=["monospace"]),
        footer_links=[],
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"serving  {page.local_url} (stop with Ctrl-C)", flush=True)
    try:
        threading.Event().wait()
    finally:
        page.close()

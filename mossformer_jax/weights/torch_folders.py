"""Finding the checkpoint in a folder: of a download, of a clone, or of a training run of the authors' programs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from mossformer_jax.weights.torch_reader import is_torch_file, lfs_advice

# Text files of family A; their first line is the name of a checkpoint in the same folder.
POINTERS = ("last_best_checkpoint", "last_checkpoint")
PARTS = ("encoder", "masknet", "decoder")  # one file each, in families C and D
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
# State of a training run beside the network, written by SpeechBrain and others.
TRAINING_STATE = re.compile(
    r"(brain|counter|optimi[sz]er|(lr_)?scheduler|scaler|dataloader.*|rng_state.*|training_args)\.\w+"
)
# SpeechBrain writes one folder per checkpoint, with its scores in a YAML file.
SAVED, SCORES, SCORE = "CKPT*", "CKPT.yaml", "si-snr"
SAVE_FOLDERS = ("", "save", "work", "work/save")
_LONGEST_NAME = 255
_MAX_CANDIDATES = 4


@dataclass(frozen=True)
class Found:
    """A checkpoint on disk.

    Attributes:
        files: one file with all tensors, or one per part.
        from_clearervoice: whether a pointer file of ClearerVoice refers to it.
        note: how it was chosen among others; empty if there were no others.
    """

    files: tuple[Path, ...]
    from_clearervoice: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """The names of its files, for messages."""
        return " + ".join(file.name for file in self.files)


def find(path: Path) -> list[Found]:
    """The checkpoint of a file or folder. There are several if the names do not decide; they should be equal.

    Raises:
        FileNotFoundError: there is no checkpoint, or a file of it is missing.
        ValueError: a pointer file is not valid, or there are too many checkpoints.
    """
    if path.is_dir():
        return _find_in_folder(path)
    if path.name in POINTERS and not is_torch_file(path):
        return [Found((_follow(path),), from_clearervoice=True)]
    if path.stem in PARTS:
        return [Found(_parts(path.parent, path.suffix))]
    return [Found((path,), from_clearervoice=path.name in POINTERS)]


def _find_in_folder(folder: Path) -> list[Found]:
    if pointers := [folder / name for name in POINTERS if (folder / name).is_file()]:
        return find(pointers[0])
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    part_suffixes = sorted({file.suffix for file in files if file.stem in PARTS})
    if (folder / SCORES).is_file() and part_suffixes:
        return [Found(_parts(folder, part_suffixes[0]))]
    whole = [Found((f,)) for f in files if f.stem not in PARTS and not TRAINING_STATE.fullmatch(f.name)]
    # The name that the hubs give comes first: it is the one that is read if all candidates are equal.
    whole.sort(key=lambda found: found.files[0].stem not in ("pytorch_model", "model"))
    candidates = whole + [Found(_parts(folder, suffix, missing_ok=bool(whole))) for suffix in part_suffixes]
    if not candidates:
        return [_best_of_training(folder)]
    if len(candidates) > _MAX_CANDIDATES:
        raise several_checkpoints(folder, candidates)
    return candidates


def several_checkpoints(folder: Path, candidates: list[Found]) -> ValueError:
    """The error for a folder with checkpoints that differ."""
    return ValueError(
        f"{folder}: contains several checkpoints; give one of {', '.join(found.name for found in candidates)}"
    )


def _parts(folder: Path, suffix: str, *, missing_ok: bool = False) -> tuple[Path, ...]:
    files = tuple(folder / (part + suffix) for part in PARTS)
    existing = tuple(file for file in files if file.is_file())
    if len(existing) < len(files) and not missing_ok:
        missing = next(file for file in files if not file.is_file())
        raise FileNotFoundError(f"{missing}: no such file; {', '.join(PARTS)} must be in the same folder")
    return existing


def _follow(pointer: Path) -> Path:
    """The file that a pointer file refers to."""
    with pointer.open("rb") as opened:
        start = opened.read(2**12)
    if advice := lfs_advice(start):
        raise ValueError(f"{pointer}: {advice}")
    name = start.decode("utf-8", "replace").strip().partition("\n")[0].strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable() or "\ufffd" in name:
        raise ValueError(f"{pointer}: does not contain the name of a checkpoint; copy the file again")
    if Path(name).name != name or "\\" in name or name == "..":
        raise ValueError(
            f"{pointer}: refers to {name!r}, which is outside its folder; it may only name a file beside it"
        )
    named = pointer.parent / name
    if not named.is_file():
        raise FileNotFoundError(f"{pointer}: refers to {name!r}, which is not in the same folder; copy it there")
    return named


def _best_of_training(folder: Path) -> Found:
    """The checkpoint with the best score in the folder of a SpeechBrain run, or above it; the newest without scores."""
    saved: list[Path] = []
    for place in SAVE_FOLDERS:
        saved += [path for path in (folder / place).glob(SAVED) if _part_suffix(path) is not None]
    if not saved:
        raise FileNotFoundError(
            f"{folder}: contains no checkpoint ({POINTERS[0]}, pytorch_model.bin, encoder|masknet|decoder.ckpt|bin, "
            f"save/CKPT+..., or another file ending in {', '.join(SUFFIXES)}); give another folder"
        )
    scores = {path: _read_scores(path / SCORES) for path in saved}
    scored = {path: values[SCORE] for path, values in scores.items() if SCORE in values}
    if scored:  # the score is a loss: the negative SI-SNR
        chosen = min(scored, key=lambda path: (scored[path], path.name))
        why = f"best {SCORE} ({scored[chosen]:g}) of {len(scored)}"
    else:
        chosen = max(saved, key=lambda path: (scores[path].get("unixtime", path.stat().st_mtime), path.name))
        why = f"newest of {len(saved)}, which have no {SCORE}"
    files = _parts(chosen, _part_suffix(chosen) or "")
    return Found(
        files, note=f"{chosen.relative_to(folder)}: {why}" if len(saved) > 1 else str(chosen.relative_to(folder))
    )


def _part_suffix(folder: Path) -> str | None:
    """The suffix of the parts in a folder; None if it has no parts."""
    return next((suffix for suffix in SUFFIXES if (folder / (PARTS[0] + suffix)).is_file()), None)


def _read_scores(file: Path) -> dict[str, float]:
    """The finite numbers in a CKPT.yaml, which has one `name: value` per line."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    scores = {}
    for line in lines:
        name, _, value = line.partition(":")
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            scores[name.strip().lower()] = number
    return scores

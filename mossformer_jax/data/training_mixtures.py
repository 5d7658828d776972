"""Opens the training data of a config."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mossformer_jax.data.acoustic_crops import AcousticCrops
from mossformer_jax.data.acoustics import Babble, LevelDrift, RecordedNoise, Reverberation
from mossformer_jax.data.channels import Channel
from mossformer_jax.data.crops import perturb_speed
from mossformer_jax.data.demo import DemoUtterances
from mossformer_jax.data.layouts import LAYOUTS, layout_opener, layout_options, open_mixtures
from mossformer_jax.data.layouts.options import call_with_options, nearest
from mossformer_jax.data.mixing import DynamicMixing, TrainingMixtures
from mossformer_jax.data.speech import Speech
from mossformer_jax.data.utterances import Utterances

# The options of `DynamicMixing` that are sections of a config themselves.
ACOUSTICS: dict[str, type] = {
    "level_drift": LevelDrift,
    "reverberation": Reverberation,
    "recorded_noise": RecordedNoise,
    "babble": Babble,
    "channel": Channel,
}
_CORPORA: dict[str, Callable[..., Speech]] = {
    "folder": Utterances.from_folder,
    "librispeech": Utterances.from_librispeech,
    "manifest": Utterances.from_manifest,
    "demo": DemoUtterances,
}
_MIXING = tuple(field.name for field in dataclasses.fields(DynamicMixing) if field.name not in ("speech", "noise"))


def option_names(options: Mapping[str, Any], training: bool) -> tuple[str, ...]:
    """All options that a section of data may have; empty if its corpus or layout is unknown.

    Args:
        options: the section; only its corpus or layout matters.
        training: whether it is a section for `open_training_mixtures` rather than for `open_mixtures`.

    Raises:
        ValueError: its layout needs a package that is not installed.
    """
    if training and (corpus := _CORPORA.get(str(options.get("corpus")))):
        return ("corpus", *inspect.signature(corpus).parameters, *_MIXING, "noise_root")
    if (layout := str(options.get("layout"))) in LAYOUTS:
        return ("layout", *layout_options(layout), *(("speeds", *ACOUSTICS) if training else ()))
    return ()


def documented_by(options: Mapping[str, Any], training: bool) -> tuple[Any, ...]:
    """The classes and functions whose docstrings describe the options of a section of data.

    Args:
        options: the section.
        training: whether it is a section for `open_training_mixtures` rather than for `open_mixtures`.

    Raises:
        ValueError: its layout needs a package that is not installed.
    """
    if training and (corpus := _CORPORA.get(str(options.get("corpus")))):
        return (corpus, DynamicMixing, *ACOUSTICS.values())
    if (layout := str(options.get("layout"))) in LAYOUTS:
        return (layout_opener(layout), *((AcousticCrops, *ACOUSTICS.values()) if training else ()))
    return ()


def open_training_mixtures(**options: Any) -> TrainingMixtures:
    """Opens the training mixtures of a config.

    Args:
        **options: either `corpus` or `layout`, with more options.
            `corpus`: speech for `DynamicMixing`, with the options of `DynamicMixing`, those of the corpus
            (`open_utterances`), and `noise_root`, a folder of noise files. `level_drift`, `babble`, `channel`,
            `reverberation` and `recorded_noise` are dicts of their fields. The last two also have the options that open
            their recordings: those of `Utterances.from_folder` (`root`, ...) or `Utterances.from_manifest` (`path`,
            `split`, ...). The "speaker" of an impulse response is its room.
            `layout`: mixtures for `AcousticCrops`, with `speeds`, the same sections, and the options of the layout
            (`open_mixtures`). `babble` then also has the options that open its voices.

    Raises:
        ValueError: neither or both of corpus and layout are given, or an option is unknown or missing.
        FileNotFoundError, ValueError: the error of the corpus or the layout.
    """
    if ("corpus" in options) == ("layout" in options):
        raise ValueError(
            "training data must have either a corpus (speech, mixed on the fly) or a layout (stored mixtures); set one "
            "of them in config.data.train"
        )
    known, kind = option_names(options, training=True), "corpus" if "corpus" in options else "layout"
    for name in options:
        if known and name not in known:
            raise ValueError(
                f"training data with {kind}={options[kind]!r} have no option {name!r}; "
                f"did you mean {nearest(name, known)!r}? All: {', '.join(known)}"
            )
    if "layout" in options:
        return _open_stored(options)
    own = {name: options.pop(name) for name in _MIXING if name in options}
    noise_root = options.pop("noise_root", None)
    sections = _take_sections(own)
    speech = open_utterances(**options)
    for name, fields in sections.items():
        own[name] = _open_acoustics(name, fields, speech.sample_rate)
    if noise_root is not None:
        own["noise"] = open_utterances("folder", root=noise_root, sample_rate=speech.sample_rate, speaker_level=-1)
    return call_with_options(DynamicMixing, "dynamic mixing", {"speech": speech, **own})


def _open_stored(options: dict[str, Any]) -> AcousticCrops:
    """The mixtures of a layout, with the options of `AcousticCrops`."""
    own = {name: options.pop(name) for name in ("speeds", *ACOUSTICS) if name in options}
    sections = _take_sections(own)
    mixtures = open_mixtures(**options)
    if "babble" in sections:
        own["voices"] = _open_recordings("babble", sections["babble"], mixtures.sample_rate)
    for name, fields in sections.items():
        own[name] = _open_acoustics(name, fields, mixtures.sample_rate)
    crops = call_with_options(AcousticCrops, "a layout", {"mixtures": mixtures, **own})
    _check_remixing(crops)
    return crops


def _take_sections(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Removes the sections of `ACOUSTICS` from the options, and returns those that are set."""
    for name in ACOUSTICS:
        if not isinstance(options.get(name), Mapping | None):
            raise ValueError(f"{name}={options[name]!r} is not allowed: must be a section with options, or None")
    sections = {name: options.pop(name) for name in ACOUSTICS if name in options}
    return {name: dict(fields) for name, fields in sections.items() if fields is not None}


def _open_acoustics(name: str, fields: dict[str, Any], sample_rate: int) -> Any:
    """An option of `DynamicMixing` that is a section of a config."""
    recordings = {"reverberation": "responses", "recorded_noise": "noise"}.get(name)
    if recordings is not None:
        fields[recordings] = _open_recordings(name, fields, sample_rate)
    return call_with_options(ACOUSTICS[name], name, fields)


def _open_recordings(name: str, fields: dict[str, Any], sample_rate: int) -> Speech:
    """The recordings of a section; removes the options that open them from its fields."""
    own = {field.name for field in dataclasses.fields(ACOUSTICS[name])}
    options = {field: fields.pop(field) for field in list(fields) if field not in own}
    if "root" not in options and "path" not in options:
        raise ValueError(f"{name} needs the option root, a folder of recordings, or path, a CSV file of them")
    if "path" not in options:
        # The folder of a response is its room; every noise file and every voice is independent.
        options.setdefault("speaker_level", -2 if name == "reverberation" else -1)
    corpus = "manifest" if "path" in options else "folder"
    return open_utterances(corpus, sample_rate=sample_rate, **options)


def _check_remixing(mixtures: AcousticCrops) -> None:
    """Checks with the first mixture, before training starts, that the data set can be remixed."""
    if not mixtures.remixes:
        return
    try:
        first = mixtures.mixtures.read(0)
    except (OSError, ValueError):
        return  # an unreadable file is counted when it is drawn
    perturb_speed(first, [100] * mixtures.num_sources)


def open_utterances(corpus: str, **options: Any) -> Speech:
    """Opens the speech of a corpus.

    Args:
        corpus: "folder", "librispeech", "manifest" or "demo".
        **options: arguments of `Utterances.from_folder`, `from_librispeech`, `from_manifest` or `DemoUtterances`.

    Raises:
        ValueError: the corpus or an option is unknown, or an option is missing.
        FileNotFoundError, ValueError: the error of the corpus.
    """
    if not isinstance(corpus, str) or corpus not in _CORPORA:
        raise ValueError(
            f"corpus {corpus!r} is unknown; did you mean {nearest(corpus, _CORPORA)!r}? All: {', '.join(_CORPORA)}"
        )
    return call_with_options(_CORPORA[corpus], f"corpus {corpus!r}", options)

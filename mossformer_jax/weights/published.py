"""The published models, by the names that their authors gave them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

HUGGING_FACE, MODELSCOPE = "huggingface", "modelscope"
_PAPER = "arXiv 2312.11825, with dynamic mixing"


@dataclass(frozen=True)
class Published:
    """A published checkpoint.

    Attributes:
        name: the name that its authors gave it.
        hub: "huggingface" or "modelscope".
        repository: "owner/name" on the hub.
        family: the layout of its files (docs/names.md).
        num_sources: number of sources.
        sample_rate: in Hz.
        input_level_db: level that the input is brought to, in dB; None if it is not changed.
        direct_decoding: whether the mask net's output is decoded directly.
        figure: published SI-SDRi, with the test set and the source; empty if we know of none for these weights.
        licence: of the weights, as stated on the hub; empty if we do not know it.
    """

    name: str
    hub: str
    repository: str
    family: str
    num_sources: int
    sample_rate: int
    input_level_db: float | None = None
    direct_decoding: bool = False
    figure: str = ""
    licence: str = ""

    def problems(self, family: str, config: Any) -> list[str]:
        """How a converted checkpoint differs from this entry; empty if it agrees."""
        found = {"family": family, **{name: getattr(config, name) for name in _CHECKED}}
        return [
            f"{name} is {found[name]}, not {getattr(self, name)}"
            for name in found
            if found[name] != getattr(self, name)
        ]


_CHECKED = ("num_sources", "sample_rate", "input_level_db", "direct_decoding")

PUBLISHED = {
    model.name: model
    for model in (
        Published(
            "MossFormer2_SS_16K",
            HUGGING_FACE,
            "alibabasglab/MossFormer2_SS_16K",
            "A",
            num_sources=2,
            sample_rate=16000,
            input_level_db=-25.0,
            licence="Apache-2.0",
        ),
        Published(
            "mossformer2-librimix-2spk",
            HUGGING_FACE,
            "alibabasglab/mossformer2-librimix-2spk",
            "C",
            num_sources=2,
            sample_rate=8000,
            figure=f"Libri2Mix 21.7 dB ({_PAPER})",
        ),
        Published(
            "mossformer2-wsj0mix-3spk",
            HUGGING_FACE,
            "alibabasglab/mossformer2-wsj0mix-3spk",
            "C",
            num_sources=3,
            sample_rate=8000,
            figure=f"WSJ0-3mix 22.2 dB ({_PAPER})",
        ),
        Published(
            "mossformer2-whamr-2spk",
            HUGGING_FACE,
            "alibabasglab/mossformer2-whamr-2spk",
            "C",
            num_sources=2,
            sample_rate=8000,
            direct_decoding=True,
            figure=f"WHAMR! 17.0 dB ({_PAPER})",
        ),
        Published(
            "speech_mossformer2_separation_temporal_8k",
            MODELSCOPE,
            "damo/speech_mossformer2_separation_temporal_8k",
            "B",
            num_sources=2,
            sample_rate=8000,
        ),
        Published(
            "speech_mossformer_separation_temporal_8k",
            MODELSCOPE,
            "damo/speech_mossformer_separation_temporal_8k",
            "D",
            num_sources=2,
            sample_rate=8000,
        ),
    )
}


def nearest_name(name: str) -> str | None:
    """The published name that is most like a name, or None if no name is like it."""
    by_lower_case = {known.lower(): known for known in PUBLISHED}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    return by_lower_case[near[0]] if near else None

"""Options of the separated sources: level, channels and file format."""

from __future__ import annotations

from dataclasses import dataclass

SCALES = ("mixture", "peak", "rms", "clearvoice", "modelscope", "none")
CHANNELS = ("mix", "each")


@dataclass(frozen=True)
class OutputOptions:
    """Options of the separated sources.

    Attributes:
        scale: level of the sources. "mixture": their level in the recording; "peak": one gain for all, so that the
            loudest peaks just below full scale; "rms": each at the recording's RMS; "clearvoice": each at the RMS of
            the network's input, as ClearVoice does; "modelscope": each peaks at 0.5, as in ModelScope's pipeline;
            "none": as the network returns them. "rms", "clearvoice" and "modelscope" do not amplify near-silent
            sources.
        mixture_consistency: distribute the residual, mixture minus sources, over the sources by their power, so that
            they add up to the mixture.
        channels: "mix" mixes the channels down to mono; "each" separates every channel, with the speakers in the same
            order in all of them.
        format: of files whose names are not given, "wav" or "flac".
        subtype: sample format of files, PCM_16, PCM_24, PCM_32 or FLOAT; None: the bit depth of the recording, which is
            PCM_24 for 24 bits, FLOAT for 32 bits and floating point (PCM_24 in FLAC), and PCM_16 for all others.

    Raises:
        ValueError: `scale` or `channels` is unknown. A file's writer checks the format and the subtype.
    """

    scale: str = "mixture"
    mixture_consistency: bool = False
    channels: str = "mix"
    format: str = "wav"
    subtype: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("scale", SCALES), ("channels", CHANNELS)):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}={value!r} is not allowed: must be one of {', '.join(allowed)}")

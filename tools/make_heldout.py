"""Makes the test mixtures of speakers that the default model is not trained on: draws their list, or writes the audio.

    python tools/make_heldout.py --data SPEECH --output HELDOUT
    python tools/make_heldout.py --data SPEECH --output HELDOUT --condition all --noise TABLES/noise.csv --rooms ROOMS
    python tools/make_heldout.py --data SPEECH --draw

SPEECH holds manifest.csv (path, speaker, speaker_known, split, n_samples) and the mono 8 kHz files that it names; the
list, configs/default_8k_heldout.csv, is drawn from its split "dev": 200 mixtures for testing, then 60 others for
validation. The output is mix/, s1/ and s2/, for `mossformer-jax separate` and `mossformer-jax score`, and mixtures.csv,
for layout="csv"; the 60 validation mixtures are in the subfolder validation/. Every run writes the same files.

Conditions:

    clean    the mixtures of the list, unchanged
    single   only the first source
    partial  each source for 60 % of the time, both for 20 %
    levels   the sources 10 dB apart
    hiss     noise between white and pink, 20 dB below both sources together
    noise    recorded noise; the louder source has an SNR of -6 to 3 dB, as in WHAM!
    room     the same noise, and talkers in a room, as in WHAMR!; the sources are the direct sound
    silence  silence
    all      all of these, each in HELDOUT/CONDITION, and HELDOUT/validation.csv with the validation mixtures of clean,
             noise and room; the default model is selected by the mean score over these mixtures

A second list, configs/default_8k_heldout_children.csv, has 200 test mixtures of children (split "dev-children" of the
table that tools/prepare_default_data.py writes next to the folders of its speech):

    python tools/make_heldout.py --data DATA --list configs/default_8k_heldout_children.csv --output HELDOUT/children

The noise is the split "dev" of the table written by tools/prepare_default_data.py. Rooms are simulated with
`mossformer-jax data rooms --seed 1 --rooms 60 --places 2 -o ROOMS`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mossformer_jax.audio import read_audio, to_mono, write_audio
from mossformer_jax.data.acoustics import RecordedNoise, Reverberation
from mossformer_jax.data.random_draws import draw_noise
from mossformer_jax.data.speech import UNKNOWN_SPEAKER, Speech
from mossformer_jax.data.utterances import Utterances

LIST = Path(__file__).parents[1] / "configs" / "default_8k_heldout.csv"
COLUMNS = ["mixture_ID", "num_samples"]
COLUMNS += [f"source_{s}_{field}" for s in (1, 2) for field in ("speaker", "path", "start", "gain")]
CONDITIONS = ("clean", "single", "partial", "levels", "hiss", "noise", "room", "silence")
SAMPLE_RATE = 8000
CHOSEN_BY = ("clean", "noise", "room")
NUM_TEST, NUM_VALIDATION = 200, 60
SECONDS = (3.0, 8.0)
# Level of each source in dB RMS, drawn uniformly. The range is as wide as that of the loudness in Libri2Mix.
LEVELS_DB = (-33.0, -25.0)
PEAK = 0.9
LEVEL_DIFFERENCE_DB, HISS_SNR_DB, HEARD_SHARE = 10.0, 20.0, 0.6
# SNR of the louder source. WHAM! uses the same range.
NOISE_SNR_DB = (-6.0, 3.0)


def draw_list(
    manifest: Path, count: int = NUM_TEST + NUM_VALIDATION, seed: int = 0, split: str = "dev"
) -> list[dict[str, str]]:
    """Draws mixtures of two labelled speakers; all speakers are equally likely.

    Args:
        manifest: the table of the speech; paths in the list are relative to its folder.
        count: number of mixtures.
        seed: seed of the random draws.
        split: the split of the table to draw from.

    Returns:
        One row per mixture, with the fields of `COLUMNS`; starts and lengths in samples.

    Raises:
        FileNotFoundError, ValueError: the manifest or a file is missing or invalid.
    """
    rng = np.random.default_rng(seed)
    speech = Utterances.from_manifest(manifest, sample_rate=SAMPLE_RATE, split=split)
    shortest, longest = (round(seconds * SAMPLE_RATE) for seconds in SECONDS)
    long_enough: dict[str, list[int]] = {}
    for index, speaker in enumerate(speech.speakers):
        if speech.num_samples(index) >= shortest and speech.speaker_names[speaker] != UNKNOWN_SPEAKER:
            long_enough.setdefault(speech.speaker_names[speaker], []).append(index)
    names = sorted(long_enough)
    rows = []
    for number in range(count):
        speakers = [names[i] for i in rng.choice(len(names), 2, replace=False)]
        pair = [int(rng.choice(long_enough[speaker])) for speaker in speakers]
        length = min(longest, *(speech.num_samples(index) for index in pair))
        starts = [int(rng.integers(speech.num_samples(index) - length + 1)) for index in pair]
        sources_ct = np.stack([speech.read(index, start, length) for index, start in zip(pair, starts, strict=True)])
        gains = 10 ** (rng.uniform(*LEVELS_DB, 2) / 20) / np.sqrt(np.mean(np.square(sources_ct), axis=1))
        scaled_ct = sources_ct * gains[:, None]
        gains *= min(1.0, PEAK / max(np.abs(scaled_ct).max(), np.abs(scaled_ct.sum(axis=0)).max()))
        row = {
            "mixture_ID": f"{number:03d}_{'_'.join(speech.name(index) for index in pair)}",
            "num_samples": str(length),
        }
        for s, (speaker, index, start, gain) in enumerate(zip(speakers, pair, starts, gains, strict=True), 1):
            path = Path(speech.paths[index]).relative_to(manifest.parent).as_posix()
            fields = {"speaker": speaker, "path": path, "start": start, "gain": f"{gain:.6f}"}
            row |= {f"source_{s}_{field}": str(value) for field, value in fields.items()}
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Surroundings:
    """The noise and the rooms for the conditions "noise" and "room".

    Attributes:
        noise: held-out noise recordings.
        rooms: held-out impulse responses, by room.
    """

    noise: Speech | None = None
    rooms: Speech | None = None

    def check(self, condition: str) -> None:
        """Raises a ValueError that names the missing option if the condition needs one."""
        if condition in ("noise", "room", "all") and self.noise is None:
            raise ValueError(f"condition {condition} needs --noise, the table of noise")
        if condition in ("room", "all") and self.rooms is None:
            raise ValueError("condition room needs --rooms, a folder of impulse responses")


def make_mixture(
    folder: Path,
    row: dict[str, str],
    number: int,
    condition: str = "clean",
    surroundings: Surroundings = Surroundings(),
) -> tuple[np.ndarray, np.ndarray]:
    """Makes the mixture `(t,)` and the sources `(2, t)` of a row of the list in a condition."""
    length = int(row["num_samples"])
    sources_ct = np.empty((2, length))
    for s, source in enumerate(sources_ct, 1):
        waveform, _ = read_audio(folder / row[f"source_{s}_path"])
        start = int(row[f"source_{s}_start"])
        source[:] = to_mono(waveform)[start : start + length] * float(row[f"source_{s}_gain"])
    # Odd mixtures swap the sources, so that neither source is always the quieter or the later one.
    first, second = (0, 1) if number % 2 == 0 else (1, 0)
    if condition == "single":
        sources_ct[1] = 0.0
    elif condition == "partial":
        heard = round(HEARD_SHARE * length)
        sources_ct[first, heard:] = 0.0
        sources_ct[second, : length - heard] = 0.0
    elif condition == "levels":
        level = np.sqrt(np.mean(np.square(sources_ct), axis=1))
        ratio = level[first] / level[second] * 10 ** (-LEVEL_DIFFERENCE_DB / 20)
        # One source is attenuated rather than the other amplified, to prevent clipping.
        sources_ct[second if ratio < 1 else first] *= ratio if ratio < 1 else 1 / ratio
    elif condition == "silence":
        sources_ct[:] = 0.0
    rng, heard_ct = np.random.default_rng(number), sources_ct
    if condition == "room":
        assert surroundings.rooms is not None
        heard_ct, sources_ct = Reverberation(surroundings.rooms, target="dry")(sources_ct.astype(np.float32), rng)
    # Rounded to 16 bits before they are added, so that the files add up exactly.
    sources_ct = np.round(sources_ct * 2**15) / 2**15
    mixture = (heard_ct if condition == "room" else sources_ct).sum(axis=0)
    if condition == "hiss":
        mixture = mixture + draw_noise(mixture, (HISS_SNR_DB, HISS_SNR_DB), rng)
    elif condition in ("noise", "room"):
        assert surroundings.noise is not None
        louder = heard_ct[np.argmax(np.square(heard_ct).sum(axis=1))].astype(np.float32)
        mixture = mixture + RecordedNoise(surroundings.noise, snr_db=NOISE_SNR_DB)(louder, rng)
        peak = np.abs(mixture).max()
        if peak > PEAK:
            mixture, sources_ct = mixture * PEAK / peak, np.round(sources_ct * PEAK / peak * 2**15) / 2**15
    return mixture, sources_ct


def write_audio_files(
    folder: Path, rows: Sequence[dict[str, str]], output: Path, condition: str, surroundings: Surroundings
) -> None:
    """Writes mix/, s1/, s2/ and the table mixtures.csv."""
    for name in ("mix", "s1", "s2"):
        (output / name).mkdir(parents=True, exist_ok=True)
    table = []
    for number, row in enumerate(rows):
        mixture, sources_ct = make_mixture(folder, row, number, condition, surroundings)
        file = f"{row['mixture_ID']}.wav"
        for name, signal in zip(("mix", "s1", "s2"), (mixture, *sources_ct), strict=True):
            write_audio(output / name / file, signal, SAMPLE_RATE)
        speakers = row["source_1_speaker"], row["source_2_speaker"]
        table.append((row["mixture_ID"], f"mix/{file}", f"s1/{file}", f"s2/{file}", *speakers))
    columns = ("id", "mixture", "source_1", "source_2", "speaker_1", "speaker_2")
    with open(output / "mixtures.csv", "w", newline="", encoding="utf-8") as table_file:
        csv.writer(table_file, lineterminator="\n").writerows([columns, *table])


def join_tables(output: Path) -> None:
    """Writes validation.csv, the validation mixtures of the conditions by which models are selected."""
    rows = []
    for condition in CHOSEN_BY:
        with open(output / condition / "validation" / "mixtures.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                paths = {name: f"{condition}/validation/{row[name]}" for name in ("mixture", "source_1", "source_2")}
                rows.append({**row, **paths, "id": f"{condition}_{row['id']}"})
    with open(output / "validation.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the list, or writes its mixtures as audio files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="SPEECH", help="the folder with manifest.csv")
    parser.add_argument("--list", type=Path, default=LIST, metavar="CSV", help="the list (default: %(default)s)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--draw", action="store_true", help="draw the list and write it")
    what.add_argument("--output", type=Path, metavar="HELDOUT", help="write the mixtures of the list as audio files")
    parser.add_argument(
        "--manifest", default="manifest.csv", metavar="CSV", help="table in SPEECH (default: %(default)s)"
    )
    parser.add_argument("--split", default="dev", help="part of the table to draw from (default: %(default)s)")
    parser.add_argument("--noise", type=Path, metavar="CSV", help="table of noise; its split dev is used")
    parser.add_argument("--rooms", type=Path, metavar="ROOMS", help="folder of impulse responses, ROOM/PLACE.wav")
    parser.add_argument("--condition", choices=(*CONDITIONS, "all"), default="clean", help="default: %(default)s")
    parser.add_argument(
        "--count", type=int, metavar="N", help="draw N mixtures, or write only the first N of each part"
    )
    flags = parser.parse_args(arguments)
    if flags.draw:
        drawn = draw_list(flags.data / flags.manifest, flags.count or NUM_TEST + NUM_VALIDATION, split=flags.split)
        with open(flags.list, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(drawn)
        num_test = min(NUM_TEST, len(drawn))
        print(f"{flags.list}: {num_test} mixtures for testing, {len(drawn) - num_test} for validation")
        return
    with open(flags.list, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    test, validation = rows[:NUM_TEST][: flags.count], rows[NUM_TEST:][: flags.count]
    noise = flags.noise and Utterances.from_manifest(flags.noise, sample_rate=SAMPLE_RATE, split="dev")
    rooms = flags.rooms and Utterances.from_folder(flags.rooms, sample_rate=SAMPLE_RATE)
    surroundings = Surroundings(noise, rooms)
    try:
        surroundings.check(flags.condition)
    except ValueError as error:
        parser.error(str(error))
    folders = {flags.condition: flags.output}
    if flags.condition == "all":
        folders = {condition: flags.output / condition for condition in CONDITIONS}
    for condition, folder in folders.items():
        for output, part in ((folder, test), (folder / "validation", validation))[: 2 if validation else 1]:
            write_audio_files(flags.data, part, output, condition, surroundings)
            print(f"{output}: {len(part)} mixtures, {condition}")
    if flags.condition == "all" and validation:
        join_tables(flags.output)


if __name__ == "__main__":
    main()

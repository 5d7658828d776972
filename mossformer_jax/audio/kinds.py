"""Identifies files that cannot be read as audio."""

from __future__ import annotations

import json
import re

# Media that libsndfile does not read, by suffix. Folders are searched for them, so that skipped files are reported.
# fmt: off
OTHER_MEDIA_SUFFIXES = (
    ".3g2", ".3ga", ".3gp", ".aa", ".aac", ".aax", ".ac3", ".alac", ".alaw", ".amr", ".ape", ".asf", ".avi", ".awb",
    ".dff", ".ds2", ".dsf", ".dss", ".dts", ".dvf", ".eac3", ".f4a", ".f4v", ".flv", ".g722", ".g729", ".gsm",
    ".m2ts", ".m4a", ".m4b", ".m4r", ".m4v", ".mka", ".mkv", ".mov", ".mp1", ".mp2", ".mp4", ".mpa", ".mpc",
    ".mpeg", ".mpg", ".msv", ".mts", ".mxf", ".ogv", ".ogx", ".oma", ".pcm", ".qcp", ".ra", ".ram", ".rm", ".rmvb",
    ".shn", ".sln", ".spx", ".tak", ".tta", ".ulaw", ".vob", ".vox", ".weba", ".webm", ".wma", ".wmv", ".wv",
)
# Those of them that FFmpeg does not read either, because they have no header or are encrypted.
_NOT_FFMPEG = (
    ".aa", ".aax", ".alac", ".alaw", ".ds2", ".dss", ".dvf", ".g722", ".g729", ".gsm", ".msv", ".oma", ".pcm", ".qcp",
    ".ram", ".sln", ".ulaw", ".vox",
)
# fmt: on
MEDIA_SUFFIXES = tuple(suffix for suffix in OTHER_MEDIA_SUFFIXES if suffix not in _NOT_FFMPEG)
_FFMPEG = "run: pip install 'mossformer-jax[video]', or convert it: ffmpeg -i INPUT OUTPUT.wav"
_DOWNLOAD = "download the recording itself"
_GIVE = "give the recording itself"
_ARCHIVES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
)
HEAD_BYTES = 1024


def media_kind(head: bytes) -> str | None:
    """The media format of a file that libsndfile does not read, from its first bytes; None for all other files."""
    if head[4:8] == b"ftyp":
        return "MP4 audio or video (AAC)"
    for start, kind in (
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
        (b"#!AMR", "AMR speech"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media (WMA, WMV)"),
        (b"FLV\x01", "Flash video"),
        (b"wvpk", "WavPack"),
        (b"MAC ", "Monkey's Audio"),
        (b".RMF", "RealMedia"),
        (b"TTA1", "True Audio"),
        (b"DSD ", "DSD audio"),
        (b"FRM8", "DSD audio"),
        (b"\x0b\x77", "AC-3"),
        (b"\x00\x00\x01\xba", "MPEG video"),
    ):
        if head.startswith(start):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "AVI video"
    if head[:1] == head[188:189] == b"G":
        return "MPEG transport stream"
    if head.startswith(b"OggS") and (b"Speex   " in head or b"theora" in head):
        return "Ogg with Speex or video"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC (ADTS)"
    return None


def looks_like_audio(head: bytes) -> bool:
    """Whether the first bytes are those of an audio format that libsndfile reads."""
    return (head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE") or head.startswith(
        (b"fLaC", b"OggS", b"ID3", b"caff", b".snd")
    )


def describe(head: bytes, size: int) -> tuple[str, str] | None:
    """What a file is, and what to do about it; None if it is not recognised.

    Args:
        head: its first `HEAD_BYTES` bytes.
        size: its size in bytes.
    """
    media = media_kind(head)
    if media is not None:
        return media, _FFMPEG
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        found = re.search(rb"size (\d+)", head)
        stored = f" to {int(found[1]):,} bytes" if found else ""
        return f"a Git LFS pointer{stored}", "run: git lfs pull"
    for start, kind in _ARCHIVES:
        if head.startswith(start):
            return kind, "unpack it first"
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it first"
    for start, kind in ((b"%PDF", "a PDF document"), (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image")):
        if head.startswith(start):
            return kind, _GIVE
    if not any(head):
        return f"{len(head):,} or more zero bytes", "its content was not written; copy or download it again"
    return _describe_text(head, size)


def _describe_text(head: bytes, size: int) -> tuple[str, str] | None:
    try:
        # The head may end inside a letter.
        encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
        text = head[: len(head) - 4 if size > len(head) else None].decode(encoding, "strict")
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\n\r\f\x1b" for letter in text):
        return None
    start = text.lstrip()[:200].lower()
    if start.startswith(("<!doctype html", "<head", "<body")) or "<html" in text.lower():
        return "a web page (HTML)", f"{_DOWNLOAD}, not the page that links to it"
    if start.startswith("<?xml") or re.match(r"<[a-z][\w:.-]*[\s>/]", start):
        return "an XML document", _GIVE
    if start.startswith(("{", "[")) and _is_json(text, whole=size <= len(head)):
        return "a JSON document, often the error message of a server", _DOWNLOAD
    return "a text file", _GIVE


def _is_json(text: str, *, whole: bool) -> bool:
    if not whole:
        return re.match(r'\s*(\{\s*"|\[\s*[\[{"\d-])', text) is not None
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

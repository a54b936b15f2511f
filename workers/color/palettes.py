"""Color palettes of old computers and game consoles."""

from __future__ import annotations

PALETTES: dict[str, str] = {
    "pico8": "000000 1d2b53 7e2553 008751 ab5236 5f574f c2c3c7 fff1e8 "
    "ff004d ffa300 ffec27 00e436 29adff 83769c ff77a8 ffccaa",
    "gameboy": "0f380f 306230 8bac0f 9bbc0f",
    "cga": "000000 55ffff ff55ff ffffff",
    "ega": "000000 0000aa 00aa00 00aaaa aa0000 aa00aa aa5500 aaaaaa "
    "555555 5555ff 55ff55 55ffff ff5555 ff55ff ffff55 ffffff",
    "c64": "000000 ffffff 68372b 70a4b2 6f3d86 588d43 352879 b8c76f "
    "6f4f25 433900 9a6759 444444 6c6c6c 9ad284 6c5eb5 959595",
    "spectrum": "000000 0000d7 d70000 d700d7 00d700 00d7d7 d7d700 d7d7d7 "
    "0000ff ff0000 ff00ff 00ff00 00ffff ffff00 ffffff",
    "nes": "7c7c7c 0000fc 0000bc 4428bc 940084 a80020 a81000 881400 503000 007800 006800 005800 004058 "
    "000000 bcbcbc 0078f8 0058f8 6844fc d800cc e40058 f83800 e45c10 ac7c00 00b800 00a800 00a844 "
    "008888 f8f8f8 3cbcfc 6888fc 9878f8 f878f8 f85898 f87858 fca044 f8b800 b8f818 58d854 58f898 "
    "00e8d8 787878 fcfcfc a4e4fc b8b8f8 d8b8f8 f8b8f8 f8a4c0 f0d0b0 fce0a8 f8d878 d8f878 b8f8b8 "
    "b8f8d8 00fcfc f8d8f8",
    "gray4": "000000 555555 aaaaaa ffffff",
}


def read_palette(name: str) -> list[tuple[int, int, int]]:
    """Return the colors of a named palette, as red, green and blue 0..255."""
    codes = [int(code, 16) for code in PALETTES[name].split()]
    return [(code >> 16, code >> 8 & 255, code & 255) for code in codes]

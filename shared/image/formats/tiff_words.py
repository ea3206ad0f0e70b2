"""Names the pixels and the compression of a TIFF that is not supported."""

from __future__ import annotations

COLOURS = {
    0: "grey with white at 0",
    1: "grey",
    2: "RGB",
    3: "a palette",
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    9: "Lab (ICC)",
    10: "Lab (ITU)",
    32_803: "raw sensor pixels",
    32_844: "LogL",
    32_845: "LogLuv",
    34_892: "linear raw pixels",
}
NUMBERS = {
    1: "integers",
    2: "signed integers",
    3: "floating-point numbers",
    5: "complex integers",
    6: "complex numbers",
}

_COMPRESSIONS = {
    9: "JBIG",
    10: "JBIG",
    32_766: "NeXT's run lengths",
    32_767: "Sony's raw compression",
    32_771: "16-bit run lengths",
    32_809: "ThunderScan",
    33_003: "JPEG 2000",
    33_005: "JPEG 2000",
    34_661: "JBIG",
    34_676: "SGI LogLuv",
    34_677: "SGI LogLuv",
    34_712: "JPEG 2000",
    34_713: "Nikon's raw compression",
    34_887: "LERC",
    34_892: "lossy JPEG",
    34_925: "LZMA",
    34_933: "PNG",
    34_934: "JPEG XR",
    50_000: "Zstandard",
    50_001: "WebP",
    50_002: "JPEG XL",
    52_546: "JPEG XL",
    65_535: "Pentax's raw compression",
}


def compression(number: int) -> str:
    """Return the compression as a part of a sentence."""
    name = _COMPRESSIONS.get(number)
    return f"with {name} ({number})" if name else f"with an unknown method ({number})"

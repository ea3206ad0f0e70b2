"""The numbers that TIFF 6.0 assigns to a page's tags, and to kinds of pixels."""

from __future__ import annotations

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES = 256, 257, 258, 259, 262, 266, 277
ROWS_PER_STRIP, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, JPEG_TABLES = 278, 317, 320, 322, 323, 347
SUBSAMPLING, PROFILE = 530, 34_675
TRANSFER_FUNCTION, WHITE_POINT, PRIMARIES, INK_SET = 301, 318, 319, 332
SUB_FILE_TYPE, OLD_SUB_FILE_TYPE, ORIENTATION, PAGE_NUMBER, SUB_PAGES = 254, 255, 274, 297, 330
PLANES, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 338, 339
DNG_VERSION = 50_706
SINGLE = {254, 256, 257, 259, 262, 266, 274, 277, 278, 282, 283, 284, 296, 322, 323}
"""Tags with one number each."""

METADATA = {270, 271, 272, 305, 306, 315, 316, 700, 33_432, 33_723, 34_377, 34_665, 34_853, 37_724}

STRIPS, TILES = (273, 279), (324, 325)
PIECES: tuple[tuple[int, int], ...] = STRIPS, TILES
"""The offsets of strips and of tiles, and their lengths in bytes."""

OLD_JPEG, OLD_JPEG_STREAM = 6, (513, 514)
"""A compression, and where its only stream is if there are no strips, which libtiff accepts (TIFF 6.0, section 22)."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
"""Kinds of pixels (PhotometricInterpretation). YCbCr pixels take 4 bytes each once decoded, whatever the
subsampling."""

BYTE, SHORT, LONG, RATIONAL, UNDEFINED, IFD = 1, 3, 4, 5, 7, 13
"""Types of numbers."""

NUMBER_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""The size in bytes of one value of a type."""

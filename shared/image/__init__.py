"""What an image must be to leave, and how any sane one becomes so.

`normalize_image` is the door: bytes in, bytes out, no I/O, no state. `examine_image` is the same door with a pause in
it, in which is known how much memory the rest will take.

::

    normalize       the story: recognized, inspected, refused, passed on or re-encoded
    examination     all that is learnt of a file before a decoder sees it
    inspection      what a parser says of a file
    memory          how much memory it will take, from that alone
    refusals        what is refused by its size alone
    reencoding      the ordered list of steps: decoding, transforming, colour_conversion, encoding, on a picture
    colour, tone, depth   what numbers stand for, what becomes of HDR, and of more than 8 bits
    damage          what a parser or a decoder throws for a damaged file, as one error

    formats/        what is known of file formats
    recognition     which formats are read, by whom, and with how much memory: the one place to add one
    unsupported     what everything else is, for a refusal that helps
    jpeg, png, gif, bmp, tiff, webp, heif   the parsers
    exif, av1       what they read inside: which way up, and how large an AVIF really is
    *_integrity     whether every pixel of a JPEG or PNG is there
    *_plugin        Pillow's plugins, where they do more than is wanted
    tiff_decoding, tiff_planes   who decodes a TIFF, also where its channels lie apart
    libtiff         what is said while a TIFF is decoded
    dng             which picture of a raw file is shown
    text_mode       whether a transfer has converted a file's line ends
"""

from shared.image.model import AspectPolicy, Change, ImageHeader, ImageLimits, NormalizedImage
from shared.image.normalize import ExaminedImage, examine_image, normalize_image

__all__ = [
    "AspectPolicy",
    "Change",
    "ExaminedImage",
    "ImageHeader",
    "ImageLimits",
    "NormalizedImage",
    "examine_image",
    "normalize_image",
]

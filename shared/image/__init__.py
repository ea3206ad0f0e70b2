"""What an image must be to be sent, and how other images are converted.

`normalize_image` is the entry point: bytes in, bytes out, no I/O, no state. `examine_image` does the same in two steps;
between them, the memory that the second one needs is known.

::

    normalize       the story: recognize, inspect, refuse, pass through or re-encode
    examination     everything learnt of a file before a decoder sees it
    inspection      what a parser learns from a file
    memory          how much memory an image will take, predicted from that alone
    refusals        what is refused because of its size
    reencoding      the ordered list of steps: decoding, transforming, colour_conversion, encoding, on a picture
    colour, tone, depth   what pixel values mean, and how HDR and more than 8 bits are converted
    damage          turns the exceptions that parsers and decoders raise for a damaged file into one error

    formats/        knowledge of file formats
    recognition     which formats are supported, by which decoder, with how much memory: the one place to add one
    unsupported     names for everything else, for a helpful refusal
    jpeg, png, gif, bmp, tiff, webp, heif   the parsers
    exif, av1, hevc, tiff_colours   what they read inside: the orientation, and colours without a profile
    *_integrity     whether every pixel of a JPEG, PNG or TIFF is present
    *_plugin        Pillow's plugins, where they do more than is wanted
    tiff_decoding, tiff_planes   which decoder a TIFF gets, also if its channels are stored in separate planes
    libtiff         the errors and warnings of libtiff
    dng             which preview of a raw file is used
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

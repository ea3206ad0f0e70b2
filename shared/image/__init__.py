"""What an image must be to leave, and how any sane one becomes so.

`normalize_image` is the door: bytes in, bytes out, no I/O, no state. `examine_image` is the same door with a pause in
it, in which is known how much memory the rest will take.

::

    normalize       the story: recognized, surveyed, refused, passed on or made anew
    formats         which formats are read, by whom, and with how much memory: the one place to add one
    strangers       what everything else is, for a refusal that helps
    survey          what a walker says of a file: jpeg, png, gif, bmp, tiff, webp, heif
    exif, av1       what walkers read inside: which way up, and how large an AVIF really is
    examination     all that is learnt of a file before a decoder sees it
    memory          how much memory it will take, from that alone
    refusals        what is refused by its size alone
    *_soundness     whether every pixel of a JPEG or PNG is there
    remaking        the ordered list of steps: decoding, transforming, encoding, on a picture
    *_plugin        Pillow's plugins, where they do more than is wanted
    blame           who is at fault when a decoder throws
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

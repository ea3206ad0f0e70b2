"""What an image must be to leave, and how any sane one becomes so.

`normalize_image` is the only door: bytes in, bytes out, no I/O, no state.

::

    normalize    the story: the ordered list of steps
    formats      which formats are read, and how each is known: the one place to add one
    strangers    what everything else is, for a refusal that helps
    jpeg, png    the walkers of the two formats that leave: legal or not, what is metadata, is it sound
    tiff, riff, isobmff, bitmap
                 the walkers of the others: size, orientation and bombs, before a decoder sees them
    exif         the one EXIF tag that matters
    decoding     from a sound source to pixels, with no more of them than needed
    transforming the steps on pixels, each with its no-op case first
    encoding     from pixels to JPEG or PNG that fits
"""

from shared.image.model import AspectPolicy, Change, ImageHeader, ImageLimits, NormalizedImage
from shared.image.normalize import normalize_image

__all__ = ["AspectPolicy", "Change", "ImageHeader", "ImageLimits", "NormalizedImage", "normalize_image"]

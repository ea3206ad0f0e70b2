"""What an image must be to leave, and how any sane one becomes so.

`normalize_image` is the only door: bytes in, bytes out, no I/O, no state.
"""

from shared.image.model import ImageHeader, ImageLimits, NormalizedImage

__all__ = ["ImageHeader", "ImageLimits", "NormalizedImage"]

"""Pictures to try the cloud with, drawn when they are wanted: a building site, in the forms that people send."""

from __future__ import annotations

import io
import random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SKY_TOP, SKY_BOTTOM = (70, 130, 200), (215, 230, 240)
GROUND, CONCRETE, CRANE, SUN = (150, 125, 90), (175, 178, 182), (235, 170, 30), (255, 236, 150)
ORIENTATION, MAKE, GPS_IFD = 0x0112, 0x010F, 0x8825


def make_samples() -> dict[str, bytes]:
    """Return file name -> content; each is different in what has to be done to it."""
    return {
        "phone.jpg": phone_photo(),
        "logo.png": logo(),
        "scan.tif": encode(building_site(1200, 900), "TIFF", compression="tiff_lzw"),
        "render.webp": encode(building_site(1600, 900), "WEBP", quality=85),
        "panorama.jpg": encode(building_site(4000, 400), "JPEG", quality=88),
        "drone.jpg": encode(grainy(building_site(4800, 3200)), "JPEG", quality=95),
        "notes.jpg": b"Tuesday: pour the second floor.\n" * 20,
    }


def building_site(width: int, height: int) -> Image.Image:
    """Draw a site whose top, left and right are told apart at a glance."""
    sky = Image.linear_gradient("L").resize((width, height))
    scene = Image.composite(Image.new("RGB", sky.size, SKY_BOTTOM), Image.new("RGB", sky.size, SKY_TOP), sky)
    draw = ImageDraw.Draw(scene)
    unit = height / 100

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * unit, top * unit, right * unit, bottom * unit

    across = width / unit
    draw.ellipse(box(6, 6, 22, 22), fill=SUN)
    draw.rectangle(box(0, 82, across, 100), fill=GROUND)
    left, right = across * 0.35, across * 0.8
    for floor in range(5):
        bottom = 82 - floor * 11
        draw.rectangle(box(left, bottom - 2, right, bottom), fill=CONCRETE)
        for column in range(7):
            x = left + (right - left - 2) * column / 6
            draw.rectangle(box(x, bottom - 11, x + 2, bottom), fill=CONCRETE)
    draw.rectangle(box(across * 0.86, 12, across * 0.86 + 2.5, 82), fill=CRANE)
    draw.rectangle(box(across * 0.3, 12, across * 0.97, 15), fill=CRANE)
    draw.line(box(across * 0.45, 15, across * 0.45, 30), fill=(40, 40, 40), width=max(1, round(unit / 2)))
    font = ImageFont.load_default(size=max(8, 9 * unit))
    draw.text((across * 0.05 * unit, 86 * unit), "THIS WAY UP", fill=(40, 30, 20), font=font)
    return scene


def phone_photo() -> bytes:
    """Return a photo that lies on its side and says where it was taken."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[MAKE] = "Telephone"
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (40.0, 2.0, 14.0), 3: "W", 4: (75.0, 38.0, 30.0)})
    lying = building_site(1500, 2000).transpose(Image.Transpose.ROTATE_90)
    return encode(lying, "JPEG", quality=90, exif=exif)


def logo() -> bytes:
    """Return a drawing with a transparent background."""
    picture = Image.new("RGBA", (800, 400), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((40, 40, 760, 360), radius=80, fill=(20, 110, 90, 255))
    draw.text((120, 130), "iTwin 7", fill=(255, 255, 255, 255), font=ImageFont.load_default(size=140))
    return encode(picture, "PNG")


def grainy(picture: Image.Image) -> Image.Image:
    """Add a sensor's noise, which is what makes photos large."""
    noise = Image.frombytes("L", picture.size, random.Random(7).randbytes(picture.width * picture.height))  # noqa: S311
    return Image.blend(picture, Image.merge("RGB", (noise, noise, noise)), 0.12)


def encode(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    """Return the picture as a file."""
    file = io.BytesIO()
    picture.save(file, image_format, **options)
    return file.getvalue()

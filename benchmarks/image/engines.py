"""How each engine that is written in Python, or run by it, processes a picture.

Peers are told our decisions (size and quality), so that they need not search for them; to pass a picture through, they
do the minimum that reads all of it. Two are not told: straightforward Pillow, and ImageMagick by itself.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import PIL
from PIL import Image, ImageOps, features

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 5_000_000
_EIGHTH = 8


@dataclass(frozen=True)
class Told:
    """Our output for the picture."""

    width: int
    height: int
    quality: int
    media_type: str
    sampling: int


class Engine:
    """An engine that can do the jobs."""

    version = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output: bytes | None = None
        self.made: dict[str, Any] | None = None

    def prepare(self, job: dict[str, Any], source: Path, told: dict[str, Any] | None) -> None:
        """Read the source: disk access is not measured."""
        self.job, self.path, self.data = job, source, source.read_bytes()
        self.told = Told(**told) if told else None

    def run(self) -> bytes | None:
        """Do the job once."""
        if self.job["passes"]:
            return self.verify()
        return self.transform()

    def verify(self) -> bytes | None:
        """Read all of the picture, and raise an error if it is damaged."""
        raise NotImplementedError

    def transform(self) -> bytes:
        """Create a legal picture from it."""
        raise NotImplementedError

    @property
    def target(self) -> Told:
        """Our output, which must be known."""
        if self.told is None:
            raise LookupError("ours has made nothing of it")
        return self.told


class Ours(Engine):
    """`normalize_image`; the others are told its `made`."""

    def __init__(self, folder: Path) -> None:
        from shared.image import normalize_image  # noqa: PLC0415 - the others do not need it

        super().__init__(folder)
        self.version = f"Pillow {PIL.__version__}"
        self._normalize = normalize_image

    def run(self) -> bytes | None:
        """Do the job once, with limits that fit it."""
        from shared.image import ImageLimits  # noqa: PLC0415 - as above

        limits = ImageLimits(max_output_pixels=self.job["max_output_pixels"], **self.job.get("limits", {}))
        normalized = self._normalize(self.data, limits)
        self.made = {
            "told": {"width": normalized.width, "height": normalized.height, "media_type": normalized.media_type},
            "changes": normalized.changes,
        }
        return normalized.data


class Limit(Engine):
    """One Pillow decode at the necessary scale, and one encode of the output pixels."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        libraries = ("libjpeg_turbo", "zlib_ng", "webp", "avif")
        versions = ", ".join(f"{name} {features.version(name)}" for name in libraries if features.check(name))
        self.version = f"Pillow {PIL.__version__} ({versions})"
        _open_heif()

    def prepare(self, job: dict[str, Any], source: Path, told: dict[str, Any] | None) -> None:
        """Prepare the output pixels."""
        super().prepare(job, source, told)
        if self.told and not job["passes"]:
            self._leaving = Image.open(self.folder / f"{job['name']}.ours")
            self._leaving.load()

    def verify(self) -> None:
        """Decode in grey at an eighth; a PNG, which cannot be scaled, as it is."""
        image = Image.open(BytesIO(self.data))
        if self.job["source"].endswith(".jpg"):
            image.draft("L", (image.width // _EIGHTH, image.height // _EIGHTH))
        image.load()

    def transform(self) -> bytes:
        """Decode, discard, and encode what was prepared."""
        image = Image.open(BytesIO(self.data))
        if not self.job["turns"]:
            image.draft(None, self._leaving.size)
        image.load()
        buffer = BytesIO()
        self._leaving.info = {}
        if self.target.media_type == "image/png":
            self._leaving.save(buffer, "PNG")
        else:
            self._leaving.save(buffer, "JPEG", quality=self.target.quality, subsampling=self.target.sampling)
        return buffer.getvalue()


class Straightforward(Engine):
    """As in most programs: the quality is lowered until the file fits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.version = f"Pillow {PIL.__version__}"
        _open_heif()

    def verify(self) -> None:
        """Decode it."""
        Image.open(BytesIO(self.data)).load()

    def transform(self) -> bytes:
        """Rotate, convert, resize or pad, and save until it fits."""
        image = ImageOps.exif_transpose(Image.open(BytesIO(self.data))).convert("RGB")
        size = self.target.width, self.target.height
        if self.job["pads"]:
            canvas = Image.new("RGB", size, "white")
            canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
            image = canvas
        elif image.size != size:
            image = image.resize(size, Image.Resampling.LANCZOS)
        for quality in range(95, 0, -10):
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= _MAX_BYTES:
                break
        return buffer.getvalue()


class Libvips(Engine):
    """libvips through its Python binding."""

    def __init__(self, folder: Path) -> None:
        import pyvips  # noqa: PLC0415 - may be missing

        super().__init__(folder)
        self._vips = pyvips
        pyvips.cache_set_max(0)
        self.version = "libvips " + ".".join(str(pyvips.version(part)) for part in range(3))

    def verify(self) -> None:
        """Decode at an eighth, in strict mode; a PNG as it is."""
        options: dict[str, Any] = {"shrink": _EIGHTH} if self.job["source"].endswith(".jpg") else {}
        self._vips.Image.new_from_buffer(self.data, "", access="sequential", fail_on="warning", **options).avg()

    def transform(self) -> bytes:
        """Stream, unless the picture must be rotated."""
        target = self.target
        if self.job["turns"] or self.job["pads"]:
            image = self._vips.Image.new_from_buffer(
                self.data, "", access="random" if self.job["turns"] else "sequential"
            )
            image = image.autorot()
        else:
            options: dict[str, Any] = {"height": target.height, "size": "force"}
            if "cmyk" in self.job["name"]:
                options |= {"export_profile": "srgb", "intent": "perceptual"}
            image = self._vips.Image.thumbnail_buffer(self.data, target.width, **options)
        if self.job["pads"]:
            image = image.gravity("centre", target.width, target.height, extend="white")
        mode = "on" if target.sampling else "off"
        return bytes(image.jpegsave_buffer(Q=target.quality, keep="none", subsample_mode=mode))


class ImageMagick(Engine):
    """ImageMagick's command line, one process per run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._program, self.version = _find_imagemagick()
        self._target = folder / f"{type(self).__name__}.jpg"

    def verify(self) -> bytes | None:
        """Decode it in strict mode."""
        self._call("-regard-warnings", self.path, "null:")
        return None

    def transform(self) -> bytes:
        """Do everything in one command."""
        target = self.target
        size = f"{target.width}x{target.height}"
        arguments: list[str | Path] = [self.path, "-auto-orient"]
        if self.job["pads"]:
            arguments += ["-background", "white", "-gravity", "center", "-extent", size]
        elif not self.job["turns"]:
            arguments = ["-define", f"jpeg:size={size}", *arguments, "-resize", size + "!"]
        if "cmyk" in self.job["name"]:
            arguments += ["-profile", self.path.parent / "srgb.icc"]
        self._call(
            *arguments,
            "-strip",
            "-sampling-factor",
            ("1x1", "2x1", "2x2")[target.sampling],
            "-quality",
            str(target.quality),
            self._target,
        )
        return self._target.read_bytes()

    def _call(self, *arguments: str | Path) -> None:
        command = [self._program, *arguments]
        finished = subprocess.run(command, stderr=subprocess.PIPE, check=False)  # noqa: S603 - our own arguments
        if finished.returncode:
            raise OSError(finished.stderr.decode(errors="replace"))


class ImageMagickAlone(ImageMagick):
    """The same as commonly used: one command for any input, which has to find out by itself how it fits."""

    def verify(self) -> bytes | None:
        """Create a legal picture: this is its only way to ensure that, and to remove metadata."""
        return self.transform()

    def transform(self) -> bytes:
        """Rotate it, scale it down to the cap, pad it, and search for the quality that fits."""
        arguments: list[str | Path] = [self.path, "-auto-orient", "-resize", f"{self.job['max_output_pixels']}@>"]
        if self.job["pads"]:
            size = f"{self.target.width}x{self.target.height}"
            arguments += ["-background", "white", "-gravity", "center", "-extent", size]
        if "cmyk" in self.job["name"]:
            arguments += ["-profile", self.path.parent / "srgb.icc"]
        self._call(*arguments, "-strip", "-define", f"jpeg:extent={_MAX_BYTES}B", self._target)
        return self._target.read_bytes()


def start(name: str, folder: Path) -> Engine:
    """Return an engine; raise ImportError or OSError if it is not installed."""
    engines: dict[str, type[Engine]] = {
        "ours": Ours,
        "pooled": Ours,
        "limit": Limit,
        "straightforward": Straightforward,
        "libvips": Libvips,
        "imagemagick": ImageMagick,
        "imagemagick-alone": ImageMagickAlone,
    }
    return engines[name](folder)


def _find_imagemagick() -> tuple[str, str]:
    """Return the program itself: `convert` may be another program, or a slow wrapper."""
    for name in ("magick", "convert-im6.q16", "convert-im7.q16", "convert"):
        program = shutil.which(name)
        if program:
            said = subprocess.run([program, "-version"], stdout=subprocess.PIPE, check=False).stdout.decode()  # noqa: S603
            if said.startswith("Version: ImageMagick"):
                return program, " ".join(said.split()[1:3])
    raise OSError("not installed")


def _open_heif() -> None:
    from pi_heif import register_heif_opener  # noqa: PLC0415 - not every engine needs it

    register_heif_opener()

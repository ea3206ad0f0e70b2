"""Names content that is not supported, and says what to send instead.

A refusal that says "unsupported" sends people to a search engine; one that says "a PDF; export the page as a PNG" does
not. Signatures are from each format's specification, as listed in
https://en.wikipedia.org/wiki/List_of_file_signatures.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SEND = "Send a JPEG or PNG."
_EXPORT = "Export the view as a JPEG or PNG."
_FRAME = "Send one frame of it as a JPEG or PNG."
_UNPACK = "Unpack it and send the image that it holds."
_HEAD_BYTES = 4_096


class _Signature(NamedTuple):
    offset: int
    magic: bytes
    what: str
    advice: str = _SEND


_SIGNATURES = (
    *(
        _Signature(
            0, b"\x89PNG" + ends, "a PNG that was changed by a transfer in text mode", "Transfer it in binary mode."
        )
        for ends in (b"\n\x1a\n", b"\n\n\x1a\n", b"\r\r\n\x1a\r\n", b"\r\r\x1a\r", b"\r\x1a\r")
    ),
    _Signature(0, b"%PDF-", "a PDF", "Export the page as a JPEG or PNG."),
    _Signature(0, b"8BPS", "a Photoshop document (PSD)", "Export it as a JPEG or PNG."),
    _Signature(0, b"%!PS", "a PostScript file (PS, EPS)", "Export it as a PNG."),
    _Signature(0, b"\xc5\xd0\xd3\xc6", "a PostScript file (EPS)", "Export it as a PNG."),
    _Signature(0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    _Signature(0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    _Signature(0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    _Signature(0, b"\xff\x0a", "a JPEG XL image"),
    _Signature(0, b"II\xbc\x01", "a JPEG XR image"),
    _Signature(0, b"II+\0", "a BigTIFF", "Save it as an ordinary TIFF, or as a JPEG or PNG."),
    _Signature(0, b"MM\0+", "a BigTIFF", "Save it as an ordinary TIFF, or as a JPEG or PNG."),
    _Signature(0, b"\x8aMNG\r\n\x1a\n", "an MNG animation", _FRAME),
    _Signature(0, b"\0\0\1\0", "an icon (ICO)"),
    _Signature(0, b"\0\0\2\0", "a cursor (CUR)"),
    _Signature(0, b"icns", "an icon (ICNS)"),
    _Signature(0, b"qoif", "a QOI image"),
    _Signature(0, b"DDS ", "a texture (DDS)"),
    _Signature(0, b"\xabKTX ", "a texture (KTX)"),
    _Signature(0, b"v/1\x01", "an OpenEXR image"),
    _Signature(0, b"#?RADIANCE", "a Radiance HDR image"),
    _Signature(0, b"gimp xcf", "a GIMP document (XCF)", "Export it as a JPEG or PNG."),
    _Signature(0, b"FUJIFILMCCD-RAW", "a camera's raw file", "Export it as a JPEG."),
    _Signature(0, b"IIRO", "a camera's raw file", "Export it as a JPEG."),
    _Signature(0, b"IIU\0", "a camera's raw file", "Export it as a JPEG."),
    _Signature(4, b"ftypcrx", "a camera's raw file", "Export it as a JPEG."),
    _Signature(4, b"ftypmif2", "a HEIF image of a newer kind (mif2)", "Save it as a JPEG."),
    _Signature(4, b"ftypmif3", "an AVIF image of a newer kind (mif3)", "Save it as a JPEG."),
    _Signature(4, b"ftypunif", "an uncompressed HEIF image (unif)", "Save it as a JPEG."),
    _Signature(4, b"ftypavci", "an AVC-coded HEIF image (avci)", "Save it as a JPEG."),
    _Signature(4, b"ftypvvic", "a VVC-coded HEIF image (vvic)", "Save it as a JPEG."),
    _Signature(4, b"ftypj2ki", "a JPEG 2000-coded HEIF image (j2ki)", "Save it as a JPEG."),
    _Signature(4, b"ftyp", "a video file", _FRAME),
    _Signature(4, b"moov", "a video file", _FRAME),
    _Signature(4, b"mdat", "a video file", _FRAME),
    _Signature(0, b"\x1a\x45\xdf\xa3", "a video file", _FRAME),
    _Signature(8, b"AVI ", "a video file", _FRAME),
    _Signature(0, b"FLV\1", "a video file", _FRAME),
    _Signature(0, b"\0\0\1\xba", "a video file", _FRAME),
    _Signature(0, b"\0\0\1\xb3", "a video file", _FRAME),
    _Signature(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video file", _FRAME),
    _Signature(8, b"WAVE", "an audio file"),
    _Signature(0, b"ID3", "an audio file"),
    _Signature(0, b"fLaC", "an audio file"),
    _Signature(0, b"OggS", "an audio or video file", _FRAME),
    _Signature(0, b"AC10", "a drawing (DWG)", _EXPORT),
    _Signature(0, b"\x08\x09\xfe\x02", "a design file (DGN)", _EXPORT),
    _Signature(0, b"ISO-10303-21", "a model (IFC or STEP)", _EXPORT),
    _Signature(0, b"SQLite format 3\0", "a database or an iModel", _EXPORT),
    _Signature(0, b"glTF", "a model (glTF)", _EXPORT),
    _Signature(0, b"LASF", "a point cloud (LAS)", _EXPORT),
    _Signature(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document or a design file (DGN)", _EXPORT),
    _Signature(0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)", "Export it as a PNG."),
    _Signature(40, b" EMF", "a Windows metafile (EMF)", "Export it as a PNG."),
    _Signature(0, b"PK\3\4", "a ZIP archive or an Office document", _UNPACK),
    _Signature(0, b"PK\5\6", "an empty ZIP archive"),
    _Signature(0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    _Signature(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    _Signature(0, b"Rar!\x1a\7", "a RAR archive", _UNPACK),
    _Signature(0, b"BZh", "a bzip2 archive", _UNPACK),
    _Signature(0, b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    _Signature(0, b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    _Signature(257, b"ustar", "a tar archive", _UNPACK),
    _Signature(0, b"MZ", "a Windows program"),
    _Signature(0, b"\x7fELF", "a Linux program"),
)

_TEXT = (
    (re.compile(rb"<svg[\s>]", re.IGNORECASE), "an SVG", "Export it as a PNG."),
    (re.compile(rb"\A<(!doctype\s+html|html|head|body)\b", re.IGNORECASE), "an HTML page", _SEND),
    (re.compile(rb"\A<\?xml|\A<[a-z]", re.IGNORECASE), "an XML document", _SEND),
    (re.compile(rb"\A[\[{]"), "a JSON document", _SEND),
    (re.compile(rb"\AP[1-7]\s"), "a Netpbm image", _SEND),
    (re.compile(rb"\Adata:image/|\A(iVBORw0KGgo|/9j/)"), "a Base64-encoded image", "Send the bytes themselves."),
    (re.compile(rb""), "a text file", _SEND),
)


def describe(data: bytes) -> str:
    """Return one sentence that says what `data` is, and one that says what to send instead."""
    head = data[:_HEAD_BYTES]
    if not head.strip(b"\0"):
        return "The file holds nothing but zeros: its upload was not completed. Upload it again."
    for offset, magic, what, advice in _SIGNATURES:
        if head.startswith(magic, offset):
            return f"The file is {what}, not a supported image. {advice}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _is_text(text):
        what, advice = next((what, advice) for pattern, what, advice in _TEXT if pattern.search(text))
        return f"The file is {what}, not a supported image. {advice}"
    return f"The file is not an image, or its format is unknown. {_SEND}"


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return not head.translate(None, delete=bytes(range(0x20, 0x100)) + b"\t\n\f\r\x1b")

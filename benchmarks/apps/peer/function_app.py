"""A plain function for the same task, as in a first version: read, open and save with Pillow, PUT, write JSON."""

import io
import json
import os

import azure.functions as func
import requests
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient
from azurefunctions.extensions.bindings import blob
from PIL import Image, ImageOps

MAX_BYTES = 5_000_000

app = func.FunctionApp()
results = BlobServiceClient.from_connection_string(os.environ["DropStorage"]).get_container_client("results")  # noqa: SIM112 - the trigger's connection
credential = ManagedIdentityCredential()


@app.function_name("process_drop")
@app.blob_trigger(
    arg_name="reference", path="drops/{name}", connection="DropStorage", source=func.BlobSource.EVENT_GRID
)
def process_drop(reference: blob.BlobClient) -> None:
    """Upload a blob to its iTwin."""
    with Image.open(io.BytesIO(reference.download_blob().readall())) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB")
    answer = requests.put(
        f"{os.environ['ITWIN_API_URL']}/itwins/{reference.container_name}/image",
        data=_jpeg(picture),
        headers={
            "Authorization": f"Bearer {credential.get_token(os.environ['ITWIN_TOKEN_SCOPE']).token}",
            "Content-Type": "image/jpeg",
        },
        timeout=60,
    )
    answer.raise_for_status()
    document = json.dumps({"status": "uploaded", "image": answer.json()["image"]})
    results.upload_blob(f"{reference.container_name}/{reference.blob_name}.json", document, overwrite=True)


def _jpeg(picture: Image.Image) -> bytes:
    """Save it at 95, 85, 75... until it fits."""
    for quality in range(95, 0, -10):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=bool(os.environ.get("PEER_OPTIMIZES")))
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()

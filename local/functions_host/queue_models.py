"""Completes the models of the queue SDK when it is imported, which Python lets one thread do alone.

The SDK completes a model when it is first used. If two threads do that at once, one of them may fail with "dictionary
changed size during iteration" (azure-storage-queue 12.18.1), although storage has done what it asked for.
"""

from azure.storage.queue._generated import models
from azure.storage.queue._generated._utils.model_base import Model

for model in list(vars(models).values()):
    if isinstance(model, type) and issubclass(model, Model):
        model()

"""The embedded Functions host: does on a laptop what Azure Functions does with `function_app.app`, where it matters.

Its behaviour follows the sources of the storage and Event Grid extensions, see
https://github.com/Azure/azure-sdk-for-net/tree/main/sdk/storage/Microsoft.Azure.WebJobs.Extensions.Storage.Blobs and
https://github.com/Azure/azure-functions-python-worker.
"""

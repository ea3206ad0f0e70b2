"""`python -m shared.replay`: put drops that have ended back on the retry queue, with the operator's own Azure login.

A drop that is replayed is read, normalized and uploaded again, unless a newer image of its iTwin is up. With --missing,
blobs are sent that have no result: written before the deployment, or their events were lost.
"""

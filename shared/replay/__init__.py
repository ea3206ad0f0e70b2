"""`python -m shared.replay`: put finished drops back on the retry queue, with the operator's own Azure login.

A replayed drop is read, normalized and uploaded again, unless a newer image of its iTwin has been uploaded. With
--missing, blobs without a result are sent instead: those written before the deployment, and those whose events were
lost.
"""

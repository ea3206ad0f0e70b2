"""`python -m shared.preview FILE...`: what would happen to files if they were dropped, without any cloud.

The app's own code decides: ignored names, the largest file that is read, the settings (from the environment, like the
app's) and `normalize_image`. The app never imports this package, nor needs its dependencies.
"""

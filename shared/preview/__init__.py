"""`python -m shared.preview FILE...`: what would become of files if they were dropped, without any cloud.

All is decided by what decides in the app: names that nobody means, the largest file that is read, the settings (from
the environment, like the app's) and `normalize_image`. Nothing of the app imports this, nor needs what it needs.
"""

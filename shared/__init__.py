"""The app: everything between the trigger and the result, without a word about how it is hosted."""

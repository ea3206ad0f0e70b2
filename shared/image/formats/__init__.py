"""Knowledge of file formats: parsers, integrity checks, Pillow's plugins; `recognition` is the table of them."""

"""The live board and its controls: the only widget code, with the lenses."""

"""What a notebook shows: boards, controls and the pump between a run and whoever watches it."""

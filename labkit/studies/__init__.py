"""Studies: runs, sweeps, distilling your own models, claims, and the measurements behind them."""

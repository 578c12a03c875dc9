"""What is run to find out: runs, sweeps, distilling, claims."""

"""What every part needs: errors, files, tensors on disk, statistics."""

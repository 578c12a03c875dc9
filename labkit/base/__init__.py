"""Used by all packages: errors, files, tensors on disk, statistics."""

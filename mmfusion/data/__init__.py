"""Films from files, downloads or nothing at all, as one source of batches."""

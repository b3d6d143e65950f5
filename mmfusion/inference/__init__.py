"""What finished runs say of any films, and their export to other formats."""

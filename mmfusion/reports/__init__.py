"""Reports of scored runs: tables, figures, panels of films."""

"""Other libraries' trainers with entroreg's losses: ``trl`` and ``verl``, each imported by its own module only."""

"""Real data sets through package clients, and their readers."""

"""Real data sets through package clients, and bags made of them."""

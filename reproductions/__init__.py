"""Papers as data, and the machinery that runs and judges them."""

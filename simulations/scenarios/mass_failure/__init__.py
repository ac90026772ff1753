"""What is still found when half of the nodes die at one instant, on each backend."""

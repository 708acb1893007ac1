"""Meta-reinforcement learning: environments, Gaussian policies, the REINFORCE inner step and the TRPO outer step."""

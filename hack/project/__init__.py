"""What is asyncflow's own in a local cluster: its images, its installation, its demo."""

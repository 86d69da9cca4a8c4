"""asyncflow in a local cluster: images, installation and demo."""

"""What a device may keep of its frames and its link, for training: figures only, no pictures."""

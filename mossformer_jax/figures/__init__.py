"""Pictures: of recordings, and of how a training went."""

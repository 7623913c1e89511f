"""Pictures: matplotlib figures and the interactive page."""

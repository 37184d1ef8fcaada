"""What the performance app does with what is measured."""

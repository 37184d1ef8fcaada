"""What comes in and what goes out; inputs and outputs apart."""

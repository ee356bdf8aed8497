"""What is measured, each by one command: `python -m benchmarks.<name>`. No part of the installed package."""

"""The reliability campaign, `python -m campaign`: nothing lost, nothing run that a file holds, nothing unbounded."""

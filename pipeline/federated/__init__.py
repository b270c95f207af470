"""Federated learning of the head, simulated: clients keep their frames, and a server averages what they learn."""

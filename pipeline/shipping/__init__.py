"""What an app gets: a folder with a model, its labels, pictures with known answers, and a description of them all."""

"""A codec outside the repository, as a laboratory of its own would have one: the example of docs/adding_a_paper.md."""

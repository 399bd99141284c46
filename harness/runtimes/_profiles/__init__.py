"""How long the nodes of a loaded model take, from the traces of the libraries."""

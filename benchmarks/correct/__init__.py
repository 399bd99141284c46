"""Random configurations of the study notes' layers, on which eager torch and a correct export must agree."""

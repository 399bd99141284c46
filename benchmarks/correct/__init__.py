"""Random configurations of the notes' layers that eager torch and a right export must agree on."""

"""Judge encoders and knowledge bases on the field's tasks, by the field's own conventions."""

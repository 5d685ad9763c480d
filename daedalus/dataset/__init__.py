"""The data set on disk: where things lie, how journals become segments, how they are read and shipped."""

"""Data of your own as sequences: series and video, cut into windows."""

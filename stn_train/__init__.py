"""Does a spatial transformer help, and does it undo the distortion?"""

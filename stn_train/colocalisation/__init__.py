"""Co-localisation (paper, appendix A.2): a transformer learns, without labels, to find what all images show."""

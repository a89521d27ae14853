"""Translation with attention (the paper, section 5.2): Multi30K, IWSLT."""

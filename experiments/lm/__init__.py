"""Language modelling (the paper, section 5.1): Penn Treebank, WikiText-2."""

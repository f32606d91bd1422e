//! Packed-panel matrix products: what every linear layer, head and codebook search stands on.

//! cross_entropy: gradients

//! attention: gradients

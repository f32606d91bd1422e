//! rmsnorm: gradients

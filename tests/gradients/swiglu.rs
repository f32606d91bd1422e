//! swiglu: gradients

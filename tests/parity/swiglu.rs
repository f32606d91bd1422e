//! swiglu: parity

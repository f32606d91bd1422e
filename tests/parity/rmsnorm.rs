//! rmsnorm: parity

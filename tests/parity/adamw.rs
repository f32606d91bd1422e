//! adamw: parity

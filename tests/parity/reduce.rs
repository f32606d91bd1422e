//! reduce: parity

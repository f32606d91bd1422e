//! linear: parity

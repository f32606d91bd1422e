//! codebook: parity

//! codebook

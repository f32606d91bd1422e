//! linear: gradients

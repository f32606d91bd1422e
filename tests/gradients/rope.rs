//! rope: gradients

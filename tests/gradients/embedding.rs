//! embedding: gradients

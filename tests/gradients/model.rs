//! whole model

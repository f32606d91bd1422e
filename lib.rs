//! Sidra

//! sid

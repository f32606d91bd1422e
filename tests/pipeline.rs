//! The whole road on a small world.

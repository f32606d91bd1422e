//! backward

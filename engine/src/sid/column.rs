//! An array that is either owned (just built) or a part of a memory map (opened from a file).

use crate::checkpoint::mmap::Map;
use bytemuck::Pod;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// `[T]` in memory of its own or in a mapped file.
#[derive(Debug, Clone)]
pub(super) enum Column<T> {
    /// Built in memory.
    Owned(Vec<T>),
    /// The bytes `range` of a map: aligned for `T` and a whole number of them, as `mapped` checked.
    Mapped { map: Arc<Map>, range: Range<usize>, of: PhantomData<T> },
}

impl<T: Pod> Column<T> {
    /// The part `range` of `map` as elements of `T`; `None` when it does not lie inside the file, is
    /// not aligned, or holds no whole number of elements.
    pub(super) fn mapped(map: &Arc<Map>, range: Range<usize>) -> Option<Self> {
        let bytes = map.bytes().get(range.clone())?;
        bytemuck::try_cast_slice::<u8, T>(bytes).ok()?;
        Some(Column::Mapped { map: Arc::clone(map), range, of: PhantomData })
    }

    /// The elements.
    #[inline]
    pub(super) fn get(&self) -> &[T] {
        match self {
            Column::Owned(v) => v,
            Column::Mapped { map, range, .. } => bytemuck::cast_slice(&map.bytes()[range.clone()]),
        }
    }
}

//! Ids by number: each text once, in one buffer, and a hash table of numbers over it. A hundred million
//! events name their users and items by four bytes each.

use std::hash::{BuildHasher, RandomState};

/// Most names; a log keeps two bits of a number for itself.
pub const MAX_NAMES: usize = 1 << 30;

/// Texts, numbered from 0 in the order in which they first came.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    /// Where each text ends in `bytes`.
    ends: Vec<u64>,
    /// Upper half: bits of the hash; lower half: number + 1, 0 where free. A power of two long.
    table: Vec<u64>,
    hasher: RandomState,
}

impl Names {
    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text of a number that was given.
    pub fn get(&self, n: u32) -> &str {
        std::str::from_utf8(self.bytes_of(n)).expect("texts went in")
    }

    fn bytes_of(&self, n: u32) -> &[u8] {
        let n = n as usize;
        let from = if n == 0 { 0 } else { self.ends[n - 1] as usize };
        &self.bytes[from..self.ends[n] as usize]
    }

    /// The number of a text, if it has one.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.slot(text).ok()
    }

    /// The number of a text, a new one where it has none; none where there are [`MAX_NAMES`].
    pub fn number(&mut self, text: &str) -> Option<u32> {
        if (self.len() + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        match self.slot(text) {
            Ok(n) => Some(n),
            Err(_) if self.len() >= MAX_NAMES => None,
            Err((slot, hash)) => {
                let n = self.len() as u32;
                self.bytes.extend_from_slice(text.as_bytes());
                self.ends.push(self.bytes.len() as u64);
                self.table[slot] = hash | u64::from(n + 1);
                Some(n)
            }
        }
    }

    /// Number of the text, or the free slot for it with the upper half of its entry.
    fn slot(&self, text: &str) -> Result<u32, (usize, u64)> {
        let hash = self.hasher.hash_one(text);
        let (tag, mask) = (hash & !0xffff_ffff, self.table.len().wrapping_sub(1));
        if self.table.is_empty() {
            return Err((0, tag));
        }
        let mut at = home(tag, mask);
        loop {
            let entry = self.table[at];
            if entry == 0 {
                return Err((at, tag));
            }
            let n = (entry as u32) - 1;
            if entry & !0xffff_ffff == tag && self.bytes_of(n) == text.as_bytes() {
                return Ok(n);
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let length = (self.table.len() * 2).max(64);
        let old = std::mem::replace(&mut self.table, vec![0; length]);
        for entry in old.into_iter().filter(|&e| e != 0) {
            let mut at = home(entry & !0xffff_ffff, length - 1);
            while self.table[at] != 0 {
                at = (at + 1) & (length - 1);
            }
            self.table[at] = entry;
        }
    }
}

/// Where a hash's search begins. Only its upper half is kept, so only that may decide.
fn home(tag: u64, mask: usize) -> usize {
    (tag >> 32) as usize & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_its_number() {
        let mut names = Names::default();
        assert_eq!(names.find("a"), None);
        for round in 0..2 {
            for n in 0..5000u32 {
                assert_eq!(names.number(&format!("name {n}")), Some(n), "round {round}");
            }
        }
        assert_eq!((names.len(), names.get(0), names.get(4999)), (5000, "name 0", "name 4999"));
        assert_eq!((names.find("name 77"), names.find("name 5000")), (Some(77), None));
    }
}

//! One more code on every item: its ordinal among the items with its ID, 0 where it is alone, so that
//! all IDs stay of one length (TIGER, arXiv 2305.05065).

use crate::error::{Error, Result};
use engine::sid::MAX_SIZE;
use std::collections::HashMap;

/// Size of the new level, and the codes with it, `[N, L + 1]`; items count in their own order.
pub(super) fn append(codes: &[u32], levels: usize) -> Result<(u32, Vec<u32>)> {
    let mut next: HashMap<&[u32], u32> = HashMap::new();
    let mut out = Vec::with_capacity(codes.len() / levels * (levels + 1));
    let mut size = 1;
    for sid in codes.chunks(levels) {
        let ordinal = next.entry(sid).or_default();
        out.extend_from_slice(sid);
        out.push(*ordinal);
        *ordinal += 1;
        size = size.max(*ordinal);
    }
    if size > MAX_SIZE {
        let problem = format!(
            "{size} items share one ID, more than the {MAX_SIZE} that a counter tells apart; raise \
             quantize.codewords or quantize.levels"
        );
        return Err(Error::usage("quantize.collisions", problem));
    }
    Ok((size, out))
}

#[cfg(test)]
mod tests {
    use super::append;

    #[test]
    fn items_count_within_their_id() {
        let (size, codes) = append(&[1, 2, 1, 3, 1, 2, 0, 0, 1, 2], 2).unwrap();
        assert_eq!(size, 3);
        assert_eq!(codes, [1, 2, 0, 1, 3, 0, 1, 2, 1, 0, 0, 0, 1, 2, 2]);
        assert_eq!(append(&[4, 5], 1).unwrap().0, 1, "no collision, one digit");
        let many = vec![7; 65_537];
        assert!(append(&many, 1).unwrap_err().to_string().contains("65537 items"));
    }
}

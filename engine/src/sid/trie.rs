//! The prefixes of a catalogue's semantic IDs as a compact, immutable trie.
//!
//! Level `l` has the distinct prefixes of `l` codes as nodes, numbered from 0 in lexicographic
//! order; level 0 is the root alone, level L the leaves. Per level two arrays, CSR:
//!
//! ```text
//!   row_ptr[l]  u32 [nodes(l) + 1]    children of node n: row_ptr[n] .. row_ptr[n + 1]
//!   codes[l]    u16 [nodes(l + 1)]    the code that leads to each, ascending within a node
//! ```
//!
//! Lexicographic numbers make a child's number its position in `codes[l]`: no pointers. A leaf
//! leads to its items (several when their IDs collide) by the same pair of arrays. Memory: 6 bytes a
//! node and 12 an item at most; a distinct ID of L codes owns at most L nodes.

use super::codes::{Codes, MAX_LEVELS, MAX_SIZE};
use super::column::Column;
use crate::error::{Error, Result};
use bindings::{Gpu, launch::trie_softmax::Level as DeviceLevel};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The children of every node of one level.
#[derive(Debug, Clone)]
pub(super) struct Level {
    /// `[nodes + 1]`.
    pub row_ptr: Column<u32>,
    /// `[nodes of the next level]`.
    pub codes: Column<u16>,
}

/// The prefix trie of a catalogue. Node and leaf numbers are local to their level.
#[derive(Debug, Clone)]
pub struct Trie {
    sizes: Vec<u32>,
    levels: Vec<Level>,
    /// Items of each leaf: `[leaves + 1]` into `items`.
    leaf_ptr: Column<u32>,
    /// Item indices by leaf, ascending within a leaf, `[N]`.
    items: Column<u32>,
    /// Leaf of each item, `[N]`.
    leaf_of: Vec<u32>,
    on_gpu: OnGpu,
}

/// The levels that an operator has copied to a GPU, by ordinal and level; copied again for a clone.
#[derive(Debug, Default)]
struct OnGpu(Mutex<BTreeMap<(u32, usize), Arc<DeviceLevel>>>);

impl Clone for OnGpu {
    fn clone(&self) -> Self {
        OnGpu::default()
    }
}

/// What is wrong with a trie that came from a file: which array, and what about it.
pub(super) type Fault = (String, String);

impl Trie {
    /// The trie over `codes`: L stable counting passes, O(L·(N + K)) time, 8·N + 4·K bytes beside
    /// the result for K codewords a level.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no item.
    pub fn build(codes: &Codes) -> Result<Trie> {
        if codes.is_empty() {
            return Err(Error::invalid("trie", "a catalogue needs at least one item"));
        }
        let depth = codes.levels();
        let items = sorted(codes);
        let mut row_ptr = vec![vec![]; depth];
        let mut child = vec![vec![]; depth];
        let (mut leaf_ptr, mut leaf_of) = (vec![], vec![0u32; items.len()]);
        let mut last: Option<&[u32]> = None;
        for (position, &item) in items.iter().enumerate() {
            let sid = codes.get(item as usize);
            // The first level whose code is new; depth when this item's ID is the last one's.
            let fresh = match last {
                None => 0,
                Some(last) => (0..depth).find(|&l| sid[l] != last[l]).unwrap_or(depth),
            };
            for l in fresh..depth {
                if l > fresh || last.is_none() {
                    row_ptr[l].push(child[l].len() as u32); // a new node at level l starts here
                }
                child[l].push(sid[l] as u16);
            }
            if fresh < depth {
                leaf_ptr.push(position as u32);
            }
            leaf_of[item as usize] = leaf_ptr.len() as u32 - 1;
            last = Some(sid);
        }
        leaf_ptr.push(items.len() as u32);
        let levels = row_ptr
            .into_iter()
            .zip(child)
            .map(|(mut row_ptr, codes)| {
                row_ptr.push(codes.len() as u32);
                row_ptr.shrink_to_fit();
                Level { row_ptr: Column::Owned(row_ptr), codes: Column::Owned(codes) }
            })
            .collect();
        Ok(Trie {
            sizes: codes.sizes().to_vec(),
            levels,
            leaf_ptr: Column::Owned(leaf_ptr),
            items: Column::Owned(items),
            leaf_of,
            on_gpu: OnGpu::default(),
        })
    }

    /// A trie over arrays from a file, wholly checked, so that no method can leave them: row
    /// pointers start at 0, grow at every node and end at their array's length, codes are below
    /// their level's size and ascend within a node, and the leaves hold every item once.
    /// Allocates `leaf_of` alone, as long as `items`.
    pub(super) fn checked(
        sizes: Vec<u32>,
        levels: Vec<Level>,
        leaf_ptr: Column<u32>,
        items: Column<u32>,
    ) -> std::result::Result<Trie, Fault> {
        if sizes.is_empty() || sizes.len() > MAX_LEVELS || sizes.len() != levels.len() {
            return Err(("sizes".into(), format!("{} levels; 1 to 8 are possible", sizes.len())));
        }
        let mut nodes = 1;
        for (l, level) in levels.iter().enumerate() {
            let codes = level.codes.get();
            if sizes[l] == 0 || sizes[l] > MAX_SIZE {
                return Err((format!("sizes[{l}]"), format!("{} is not in 1..=65536", sizes[l])));
            }
            let name = format!("level.{l}.row_ptr");
            check_rows(&name, level.row_ptr.get(), nodes, codes.len())?;
            for row in level.row_ptr.get().windows(2) {
                let (start, end) = (row[0] as usize, row[1] as usize);
                for i in start..end {
                    let place = || format!("level.{l}.codes[{i}]");
                    if u32::from(codes[i]) >= sizes[l] {
                        let size = sizes[l];
                        return Err((place(), format!("{} where K is {size}", codes[i])));
                    }
                    if i > start && codes[i] <= codes[i - 1] {
                        return Err((place(), "does not ascend within its node".into()));
                    }
                }
            }
            nodes = codes.len();
        }
        check_rows("leaf.row_ptr", leaf_ptr.get(), nodes, items.get().len())?;
        let mut leaf_of = vec![u32::MAX; items.get().len()];
        for (leaf, row) in leaf_ptr.get().windows(2).enumerate() {
            let row = row[0] as usize..row[1] as usize;
            for i in row.clone() {
                let item = items.get()[i];
                let place = || format!("leaf.items[{i}]");
                match leaf_of.get_mut(item as usize) {
                    None => return Err((place(), format!("item {item} does not exist"))),
                    Some(of) if *of != u32::MAX => {
                        return Err((place(), format!("item {item} stands there twice")));
                    }
                    Some(of) => *of = leaf as u32,
                }
                if i > row.start && item <= items.get()[i - 1] {
                    return Err((place(), "does not ascend within its leaf".into()));
                }
            }
        }
        Ok(Trie { sizes, levels, leaf_ptr, items, leaf_of, on_gpu: OnGpu::default() })
    }

    /// Number of levels L; nodes at level L are leaves.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Codewords by level, `[L]`.
    pub fn sizes(&self) -> &[u32] {
        &self.sizes
    }

    /// The node of level 0.
    pub fn root(&self) -> u32 {
        0
    }

    /// Nodes at `level`, 0..=L.
    pub fn nodes(&self, level: usize) -> usize {
        if level == 0 { 1 } else { self.levels[level - 1].codes.get().len() }
    }

    /// Leaves: distinct semantic IDs.
    pub fn leaves(&self) -> usize {
        self.nodes(self.levels())
    }

    /// Number of items N.
    pub fn len(&self) -> usize {
        self.leaf_of.len()
    }

    /// Whether there is no item (never, for a trie that was built).
    pub fn is_empty(&self) -> bool {
        self.leaf_of.is_empty()
    }

    /// The children of `node` at `level` (below L): the number of the first at level + 1, and the
    /// code that leads to each, ascending; child `i` has the number `first + i`. Never empty.
    ///
    /// # Panics
    /// If there is no such level or node.
    #[inline]
    pub fn children(&self, level: usize, node: u32) -> (u32, &[u16]) {
        let level = &self.levels[level];
        let row_ptr = level.row_ptr.get();
        let (start, end) = (row_ptr[node as usize], row_ptr[node as usize + 1]);
        (start, &level.codes.get()[start as usize..end as usize])
    }

    /// The child of `node` at `level` by `code`: its number at level + 1.
    pub fn child(&self, level: usize, node: u32, code: u32) -> Option<u32> {
        let (first, codes) = self.children(level, node);
        let code = u16::try_from(code).ok()?;
        codes.binary_search(&code).ok().map(|i| first + i as u32)
    }

    /// The node that a prefix of at most L codes leads to.
    pub fn descend(&self, prefix: &[u32]) -> Option<u32> {
        if prefix.len() > self.levels() {
            return None;
        }
        prefix.iter().enumerate().try_fold(0, |node, (l, &code)| self.child(l, node, code))
    }

    /// The leaf of a whole semantic ID.
    pub fn lookup(&self, sid: &[u32]) -> Option<u32> {
        if sid.len() == self.levels() { self.descend(sid) } else { None }
    }

    /// The items of a leaf, ascending; more than one when their IDs collide.
    ///
    /// # Panics
    /// If there is no such leaf.
    pub fn items(&self, leaf: u32) -> &[u32] {
        let ptr = self.leaf_ptr.get();
        &self.items.get()[ptr[leaf as usize] as usize..ptr[leaf as usize + 1] as usize]
    }

    /// The leaf of an item.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn leaf_of(&self, item: u32) -> u32 {
        self.leaf_of[item as usize]
    }

    /// The semantic ID of a leaf, found upwards by L binary searches.
    ///
    /// # Panics
    /// If there is no such leaf.
    pub fn sid(&self, leaf: u32) -> Vec<u32> {
        let mut sid = vec![0; self.levels()];
        let mut node = leaf;
        for l in (0..self.levels()).rev() {
            sid[l] = u32::from(self.levels[l].codes.get()[node as usize]);
            node = self.levels[l].row_ptr.get().partition_point(|&start| start <= node) as u32 - 1;
        }
        sid
    }

    /// `row_ptr` and `codes` of a level, to be copied to a device or a file.
    pub fn level(&self, level: usize) -> (&[u32], &[u16]) {
        let level = &self.levels[level];
        (level.row_ptr.get(), level.codes.get())
    }

    /// A level in the memory of `gpu`, copied there on the first call.
    pub(crate) fn level_on(&self, gpu: &Gpu, level: usize) -> Result<Arc<DeviceLevel>> {
        let mut copies = self.on_gpu.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = copies.get(&(gpu.ordinal(), level)) {
            return Ok(Arc::clone(copy));
        }
        let (row_ptr, codes) = self.level(level);
        let copy = Arc::new(DeviceLevel::upload(gpu, row_ptr, codes, self.sizes[level])?);
        copies.insert((gpu.ordinal(), level), Arc::clone(&copy));
        Ok(copy)
    }

    /// Leaf pointers `[leaves + 1]` and items by leaf `[N]`, to be copied to a file.
    pub fn leaf_arrays(&self) -> (&[u32], &[u32]) {
        (self.leaf_ptr.get(), self.items.get())
    }

    /// Items that share their ID with another, and the size of the largest such group (1 without).
    pub fn collisions(&self) -> (usize, usize) {
        self.leaf_ptr.get().windows(2).fold((0, 1), |(items, largest), row| {
            let n = (row[1] - row[0]) as usize;
            (items + if n > 1 { n } else { 0 }, largest.max(n))
        })
    }

    /// Bytes of the arrays: what a copy in memory or on a device takes.
    pub fn bytes(&self) -> usize {
        let levels =
            self.levels.iter().map(|l| 4 * l.row_ptr.get().len() + 2 * l.codes.get().len());
        levels.sum::<usize>()
            + 4 * (self.leaf_ptr.get().len() + self.items.get().len() + self.leaf_of.len())
    }
}

/// Item indices in lexicographic order of their IDs, ties by index (least significant level first,
/// each pass stable).
fn sorted(codes: &Codes) -> Vec<u32> {
    let (n, depth) = (codes.len(), codes.levels());
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut next = vec![0u32; n];
    let flat = codes.as_slice();
    for l in (0..depth).rev() {
        let mut start = vec![0u32; codes.sizes()[l] as usize + 1];
        for item in 0..n {
            start[flat[item * depth + l] as usize + 1] += 1;
        }
        for k in 1..start.len() {
            start[k] += start[k - 1];
        }
        for &item in &order {
            let at = &mut start[flat[item as usize * depth + l] as usize];
            next[*at as usize] = item;
            *at += 1;
        }
        std::mem::swap(&mut order, &mut next);
    }
    order
}

/// Row pointers of `rows` rows that cover `len` elements, none empty.
fn check_rows(
    name: &str,
    row_ptr: &[u32],
    rows: usize,
    len: usize,
) -> std::result::Result<(), Fault> {
    if row_ptr.len() != rows + 1 {
        let problem = format!("{} pointers where {rows} nodes need {}", row_ptr.len(), rows + 1);
        return Err((name.into(), problem));
    }
    if row_ptr[0] != 0 {
        return Err((format!("{name}[0]"), format!("{} where 0 is due", row_ptr[0])));
    }
    if let Some(i) = row_ptr.windows(2).position(|w| w[0] >= w[1]) {
        return Err((
            format!("{name}[{}]", i + 1),
            "does not grow: a node without children".into(),
        ));
    }
    if row_ptr[rows] as usize != len {
        let problem = format!("ends at {} where the array holds {len}", row_ptr[rows]);
        return Err((format!("{name}[{rows}]"), problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::random::Stream;

    fn random(n: usize, sizes: &[u32], seed: u64) -> Codes {
        let mut r = Stream::new(seed, 1).reader();
        let codes = (0..n)
            .flat_map(|_| sizes.iter().map(|&k| r.below(k as usize) as u32).collect::<Vec<_>>());
        let codes = codes.collect();
        Codes::new(sizes.to_vec(), codes).unwrap()
    }

    /// Every method against a sorted map of the IDs.
    #[test]
    fn agrees_with_a_sorted_map() {
        for (n, sizes) in
            [(1, vec![1]), (40, vec![3, 4]), (500, vec![9, 1, 4_464, 3]), (300, vec![2; 8])]
        {
            let codes = random(n, &sizes, n as u64);
            let trie = Trie::build(&codes).unwrap();
            let mut map: BTreeMap<Vec<u32>, Vec<u32>> = BTreeMap::new();
            for (i, sid) in codes.rows().enumerate() {
                map.entry(sid.to_vec()).or_default().push(i as u32);
            }
            assert_eq!(trie.leaves(), map.len());
            assert_eq!(trie.len(), n);
            for (leaf, (sid, items)) in map.iter().enumerate() {
                assert_eq!(trie.lookup(sid), Some(leaf as u32));
                assert_eq!(trie.sid(leaf as u32), *sid);
                assert_eq!(trie.items(leaf as u32), items);
                for &i in items {
                    assert_eq!(trie.leaf_of(i), leaf as u32);
                }
            }
            let colliding: usize = map.values().map(Vec::len).filter(|&n| n > 1).sum();
            assert_eq!(trie.collisions().0, colliding);
            for l in 0..sizes.len() {
                let mut prefixes: Vec<&[u32]> = map.keys().map(|s| &s[..l]).collect();
                prefixes.dedup();
                assert_eq!(trie.nodes(l), prefixes.len());
                for (node, prefix) in prefixes.iter().enumerate() {
                    assert_eq!(trie.descend(prefix), Some(node as u32));
                    let mut want: Vec<u32> =
                        map.keys().filter(|s| s.starts_with(prefix)).map(|s| s[l]).collect();
                    want.dedup();
                    let (_, got) = trie.children(l, node as u32);
                    assert_eq!(got.iter().map(|&c| u32::from(c)).collect::<Vec<_>>(), want);
                }
            }
            assert_eq!(trie.lookup(&vec![65_536; sizes.len()]), None);
            assert_eq!(trie.lookup(&[]), None);
        }
    }

    #[test]
    fn the_largest_code_fits() {
        let codes = Codes::new(vec![65_536; 2], vec![65_535, 0, 65_535, 65_535]).unwrap();
        let trie = Trie::build(&codes).unwrap();
        assert_eq!(trie.lookup(&[65_535, 65_535]), Some(1));
    }

    #[test]
    fn impossible_tables_are_refused() {
        for (sizes, codes) in [
            (vec![], vec![]),
            (vec![1; 9], vec![0; 9]),
            (vec![0], vec![0]),
            (vec![65_537], vec![0]),
            (vec![4, 4], vec![0; 3]),
            (vec![4, 4], vec![0, 4]),
        ] {
            assert!(Codes::new(sizes, codes).is_err());
        }
        assert!(Trie::build(&Codes::new(vec![4], vec![]).unwrap()).is_err());
    }

    #[test]
    fn broken_arrays_are_refused() {
        let codes = Codes::new(vec![3, 5], vec![0, 1, 0, 4, 2, 0, 2, 0]).unwrap();
        let trie = Trie::build(&codes).unwrap();
        type Arrays = (Vec<u32>, Vec<Vec<u32>>, Vec<Vec<u16>>, Vec<u32>, Vec<u32>);
        let good: Arrays = (
            trie.sizes.clone(),
            (0..2).map(|l| trie.level(l).0.to_vec()).collect(),
            (0..2).map(|l| trie.level(l).1.to_vec()).collect(),
            trie.leaf_arrays().0.to_vec(),
            trie.leaf_arrays().1.to_vec(),
        );
        let check = |a: Arrays| {
            let levels = a.1.into_iter().zip(a.2).map(|(row_ptr, codes)| Level {
                row_ptr: Column::Owned(row_ptr),
                codes: Column::Owned(codes),
            });
            let levels = levels.collect();
            Trie::checked(a.0, levels, Column::Owned(a.3), Column::Owned(a.4)).map_err(|f| f.0)
        };
        assert!(check(good.clone()).is_ok());
        type Spoil = fn(&mut Arrays);
        let breaks: [(&str, Spoil); 12] = [
            ("sizes", |a| a.0.truncate(1)),
            ("sizes[1]", |a| a.0[1] = 65_537),
            ("level.1.codes[1]", |a| a.0[1] = 3),
            ("level.0.row_ptr", |a| a.1[0].push(9)),
            ("level.1.row_ptr[0]", |a| a.1[1][0] = 1),
            ("level.1.row_ptr[1]", |a| a.1[1][1] = 0),
            ("level.1.row_ptr[2]", |a| a.1[1][2] = 99),
            ("level.0.codes[1]", |a| a.2[0][1] = 0),
            ("leaf.row_ptr[1]", |a| a.3[1] = 0),
            ("leaf.items[0]", |a| a.4[0] = 77),
            ("leaf.items[1]", |a| a.4[1] = 0),
            ("leaf.items[3]", |a| a.4.swap(2, 3)),
        ];
        for (place, spoil) in breaks {
            let mut arrays = good.clone();
            spoil(&mut arrays);
            assert_eq!(check(arrays).unwrap_err(), place);
        }
    }
}

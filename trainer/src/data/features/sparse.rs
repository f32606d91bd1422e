//! A sparse matrix by rows, and its products with dense ones that are kept column by column.

use rayon::prelude::*;

/// Rows at a time in products: fixed, so that threads do not change the bits.
const CHUNK: usize = 256;

/// Compressed rows; column numbers ascend within a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sparse {
    pub columns: usize,
    /// `[rows + 1]`
    starts: Vec<usize>,
    column: Vec<u32>,
    value: Vec<f64>,
}

impl Sparse {
    /// From rows of (column, value), ascending by column.
    pub fn from_rows(columns: usize, rows: impl Iterator<Item = Vec<(u32, f64)>>) -> Self {
        let mut m = Sparse { columns, starts: vec![0], column: Vec::new(), value: Vec::new() };
        for row in rows {
            debug_assert!(row.windows(2).all(|w| w[0].0 < w[1].0));
            for (c, v) in row {
                m.column.push(c);
                m.value.push(v);
            }
            m.starts.push(m.column.len());
        }
        m
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.column.len()
    }

    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let span = self.starts[i]..self.starts[i + 1];
        self.column[span.clone()].iter().zip(&self.value[span]).map(|(&c, &v)| (c as usize, v))
    }

    pub fn transposed(&self) -> Sparse {
        let mut starts = vec![0usize; self.columns + 1];
        self.column.iter().for_each(|&c| starts[c as usize + 1] += 1);
        for c in 0..self.columns {
            starts[c + 1] += starts[c];
        }
        let mut next = starts.clone();
        let (mut column, mut value) = (vec![0; self.len()], vec![0.0; self.len()]);
        for i in 0..self.rows() {
            for (c, v) in self.row(i) {
                column[next[c]] = i as u32;
                value[next[c]] = v;
                next[c] += 1;
            }
        }
        Sparse { columns: self.rows(), starts, column, value }
    }

    /// y\[rows, k\] = self · x\[columns, k\], both row by row.
    pub fn times(&self, x: &[f64], k: usize) -> Vec<f64> {
        let mut y = vec![0.0; self.rows() * k];
        y.par_chunks_mut(CHUNK * k).enumerate().for_each(|(chunk, y)| {
            for (r, y) in y.chunks_exact_mut(k).enumerate() {
                for (c, v) in self.row(chunk * CHUNK + r) {
                    for (y, x) in y.iter_mut().zip(&x[c * k..][..k]) {
                        *y += v * x;
                    }
                }
            }
        });
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_transposes() {
        // [0 2 0; 1 0 3]
        let m = Sparse::from_rows(3, [vec![(1, 2.0)], vec![(0, 1.0), (2, 3.0)]].into_iter());
        assert_eq!(m.times(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0], 2), [4.0, 40.0, 10.0, 100.0]);
        let t = m.transposed();
        assert_eq!((t.rows(), t.columns, t.len()), (3, 2, 3));
        assert_eq!(t.row(2).collect::<Vec<_>>(), [(1, 3.0)]);
        assert_eq!(t.transposed(), m);
    }
}

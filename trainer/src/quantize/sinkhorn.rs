//! Sinkhorn assignment: rows to columns so that every column gets about as many, by optimal transport
//! with entropy (Cuturi, NeurIPS 2013), as LC-Rec and MiniOneRec use it on codewords.
//!
//! ```text
//!   d' = (d − (max + min)/2) / ((max − min)/2)        over the whole matrix
//!   Q = exp(−d'/ε),  then 50 times: each column to sum 1/columns, each row to sum 1/rows
//!   code of a row: its greatest entry
//! ```

/// Least ε: d' spans 2, and e^(−2/ε) must not vanish in double precision (2 / 745 = .0027).
pub const LEAST_EPSILON: f64 = 0.0027;

/// Normalisations of all columns and all rows.
const ITERATIONS: usize = 50;

/// The column of each row of `distances` `[N, columns]`, in double precision. Finite entries.
pub fn assign(distances: &[f32], columns: usize, epsilon: f64) -> Vec<u32> {
    let rows = distances.len() / columns.max(1);
    if rows == 0 {
        return vec![];
    }
    let (least, most) = distances.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &d| {
        (a.min(f64::from(d)), b.max(f64::from(d)))
    });
    let half = (0.5 * (most - least)).max(f64::MIN_POSITIVE);
    let mut q = Vec::with_capacity(distances.len());
    for row in distances.chunks_exact(columns) {
        // A row's own least distance cancels in its sum; without it a small ε would overflow.
        let nearest = row.iter().fold(f32::INFINITY, |m, &d| m.min(d));
        let scaled = |&d: &f32| (-f64::from(d - nearest) / (half * epsilon)).exp();
        q.extend(row.iter().map(scaled));
    }
    let mut sums = vec![0.0; columns];
    for _ in 0..ITERATIONS {
        sums.fill(0.0);
        for row in q.chunks_exact(columns) {
            sums.iter_mut().zip(row).for_each(|(sum, q)| *sum += q);
        }
        for row in q.chunks_exact_mut(columns) {
            for (q, &sum) in row.iter_mut().zip(&sums) {
                // A column that nobody comes near has no mass to scale.
                *q = if sum > 0.0 { *q / (sum * columns as f64) } else { 0.0 };
            }
        }
        for row in q.chunks_exact_mut(columns) {
            let sum: f64 = row.iter().sum();
            if sum > 0.0 {
                row.iter_mut().for_each(|q| *q /= sum * rows as f64);
            }
        }
    }
    let greatest = |row: &[f64]| {
        let mut best = 0;
        (1..columns).for_each(|k| best = if row[k] > row[best] { k } else { best });
        best as u32
    };
    q.chunks_exact(columns).map(greatest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::cpu::random::Stream;

    /// The formula in its plain form, with an ε that does not overflow.
    fn plain(d: &[f32], columns: usize, epsilon: f64) -> Vec<u32> {
        let rows = d.len() / columns;
        let least = d.iter().copied().fold(f32::INFINITY, f32::min) as f64;
        let most = d.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let (middle, half) = ((most + least) / 2.0, (most - least) / 2.0);
        let mut q: Vec<f64> =
            d.iter().map(|&d| (-(f64::from(d) - middle) / half / epsilon).exp()).collect();
        for _ in 0..ITERATIONS {
            for k in 0..columns {
                let sum: f64 = (0..rows).map(|i| q[i * columns + k]).sum();
                (0..rows).for_each(|i| q[i * columns + k] /= sum * columns as f64);
            }
            for i in 0..rows {
                let sum: f64 = q[i * columns..(i + 1) * columns].iter().sum();
                (0..columns).for_each(|k| q[i * columns + k] /= sum * rows as f64);
            }
        }
        let best = |row: &[f64]| (0..columns).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        q.chunks(columns).map(|row| best(row) as u32).collect()
    }

    #[test]
    fn is_the_formula() {
        let mut r = Stream::new(1, 5).reader();
        for _ in 0..20 {
            let d: Vec<f32> = (0..24 * 6).map(|_| r.f32()).collect();
            assert_eq!(assign(&d, 6, 0.05), plain(&d, 6, 0.05));
        }
    }

    #[test]
    fn columns_share_rows_that_nearest_would_pile_up() {
        // Every row is nearest to column 0, some more than others.
        let d: Vec<f32> = (0..40).flat_map(|i| [0.0, 0.1 + i as f32 * 0.01]).collect();
        let codes = assign(&d, 2, 0.01);
        let first = codes.iter().filter(|&&c| c == 0).count();
        assert!((15..=25).contains(&first), "{first} of 40; the nearest would be 40");
        assert!(assign(&d, 2, LEAST_EPSILON).contains(&1), "the least ε still moves mass");
        assert_eq!(assign(&[3.0; 4], 2, 0.003).len(), 2, "equal distances");
        assert!(assign(&[], 2, 0.1).is_empty());
    }
}

//! Min-cost matching: every row gets a column of its own at the least total cost. Shortest
//! augmenting paths with potentials (Jonker & Volgenant 1987; the Hungarian method in O(n²·m)).

/// Columns of the rows of `cost`, row-major `[n, m]` with n ≤ m and finite entries: distinct, and
/// of least total cost. Ties are broken by the order of the columns, the same in every run.
pub(super) fn assign(cost: &[f64], m: usize) -> Vec<usize> {
    let n = cost.len().checked_div(m).unwrap_or(0);
    assert!(n <= m, "{n} rows cannot have {m} columns each its own");
    const FREE: usize = usize::MAX;
    let mut row_of = vec![FREE; m];
    // Potentials: cost[i, j] − u[i] − v[j] ≥ 0, and 0 along the matching.
    let (mut u, mut v) = (vec![0.0; n], vec![0.0; m]);
    let (mut shortest, mut from, mut done) = (vec![0.0; m], vec![FREE; m], vec![false; m]);
    for row in 0..n {
        shortest.fill(f64::INFINITY);
        from.fill(FREE);
        done.fill(false);
        let (mut i, mut through, mut length) = (row, FREE, 0.0);
        // Dijkstra over columns from `row` to the nearest free column.
        let end = loop {
            let mut nearest = FREE;
            for j in (0..m).filter(|&j| !done[j]) {
                let path = length + cost[i * m + j] - u[i] - v[j];
                if path < shortest[j] {
                    (shortest[j], from[j]) = (path, through);
                }
                if nearest == FREE || shortest[j] < shortest[nearest] {
                    nearest = j;
                }
            }
            (length, done[nearest]) = (shortest[nearest], true);
            if row_of[nearest] == FREE {
                break nearest;
            }
            (i, through) = (row_of[nearest], nearest);
        };
        u[row] += length;
        for j in (0..m).filter(|&j| done[j] && j != end) {
            u[row_of[j]] += length - shortest[j];
            v[j] -= length - shortest[j];
        }
        // Every column on the path takes the row of the column before it.
        let mut j = end;
        while from[j] != FREE {
            row_of[j] = row_of[from[j]];
            j = from[j];
        }
        row_of[j] = row;
    }
    let mut column_of = vec![0; n];
    for (j, &i) in row_of.iter().enumerate().filter(|&(_, &i)| i != FREE) {
        column_of[i] = j;
    }
    column_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::cpu::random::Stream;

    /// The least cost by trying everything.
    fn brute(cost: &[f64], m: usize, row: usize, taken: &mut Vec<bool>) -> f64 {
        if row * m == cost.len() {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        for j in 0..m {
            if !taken[j] {
                taken[j] = true;
                best = best.min(cost[row * m + j] + brute(cost, m, row + 1, taken));
                taken[j] = false;
            }
        }
        best
    }

    #[test]
    fn is_the_best_of_all_matchings() {
        let mut r = Stream::new(1, 1).reader();
        for case in 0..400 {
            let m = 1 + case % 6;
            let n = 1 + r.below(m);
            // Small whole numbers: ties everywhere in half of the cases.
            let cost: Vec<f64> = (0..n * m)
                .map(|_| if case % 2 == 0 { r.below(4) as f64 } else { r.f64() - 0.5 })
                .collect();
            let got = assign(&cost, m);
            let mut distinct = got.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), n);
            let total: f64 = got.iter().enumerate().map(|(i, &j)| cost[i * m + j]).sum();
            let best = brute(&cost, m, 0, &mut vec![false; m]);
            assert!((total - best).abs() < 1e-12, "{n}×{m}: {total} where {best} is possible");
        }
    }

    #[test]
    fn identical_rows_share_out_the_columns() {
        let mut got = assign(&[1.0, 2.0, 3.0].repeat(3), 3);
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
        assert!(assign(&[], 0).is_empty());
    }
}

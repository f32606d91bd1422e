//! Mean and spread of a stream of numbers, and their place in a checkpoint.

use serde::{Deserialize, Serialize};

/// Welford's sums: mean and squared deviations of all numbers so far, without keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "Bits", from = "Bits")]
pub struct Running {
    count: u64,
    mean: f64,
    /// Σ (x − mean)².
    squares: f64,
}

impl Running {
    /// Takes in `x`, finite.
    pub fn push(&mut self, x: f64) {
        self.count += 1;
        let off = x - self.mean;
        self.mean += off / self.count as f64;
        self.squares += off * (x - self.mean);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 of none.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Their standard deviation with n − 1; 0 of fewer than two.
    pub fn deviation(&self) -> f64 {
        if self.count < 2 { 0.0 } else { (self.squares / (self.count - 1) as f64).sqrt() }
    }
}

/// [`Running`] in a file: floats as their bits, since decimals need not come back as what they were.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bits {
    count: u64,
    mean: u64,
    squares: u64,
}

impl From<Running> for Bits {
    fn from(r: Running) -> Self {
        Bits { count: r.count, mean: r.mean.to_bits(), squares: r.squares.to_bits() }
    }
}

impl From<Bits> for Running {
    fn from(b: Bits) -> Self {
        let (mean, squares) = (f64::from_bits(b.mean), f64::from_bits(b.squares));
        Running { count: b.count, mean, squares }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_and_through_json_to_the_bit() {
        let mut r = Running::default();
        assert_eq!((r.mean(), r.deviation()), (0.0, 0.0));
        for x in [2.0, 4.0, 9.0] {
            r.push(x);
        }
        assert_eq!((r.count(), r.mean()), (3, 5.0));
        assert!((r.deviation() - 13f64.sqrt()).abs() < 1e-12); // (9 + 1 + 16) / 2
        r.push(0.1 + 0.2);
        let text = serde_json::to_string(&r).unwrap();
        assert_eq!(serde_json::from_str::<Running>(&text).unwrap(), r);
    }
}

//! Codebook search (K10) and k-means update (K12), f32, at a tenth and a fortieth of the goals' points: the
//! operands of 10⁷ would take longer to make on the host than to search.

use super::{Case, Prepared, Units, close, f32s, host, places};
use engine::ops::Work;
use engine::ops::codebook::{self, Spec};
use engine::{DType, Tensor};

pub fn cases(small: bool) -> Vec<Case> {
    let shapes: &[(&str, usize, usize, usize)] = if small {
        &[("small", 130, 33, 70)]
    } else {
        &[("k10_n250000_d768", 250_000, 768, 256), ("n65536_d384", 65_536, 384, 256)]
    };
    let mut cases = vec![];
    for &(name, points, width, codes) in shapes {
        let spec = Spec { points, width, codes };
        cases.push(assign(format!("codebook/assign_{name}"), spec));
        cases.push(update(format!("codebook/update_{}", name.replace("k10", "k12")), spec));
    }
    cases
}

fn assign(name: String, spec: Spec) -> Case {
    let Spec { points, width, codes } = spec;
    // A subtraction and an FMA an element, on CUDA cores.
    let work = Work { flops: 3 * (points * width * codes) as u64, bytes: spec.work().bytes };
    Case::new(name, work, Units::F32, move |_| {
        let tensors = vec![
            f32s(&[points, width], 1, 1.0),
            f32s(&[codes, width], 2, 1.0),
            Tensor::zeros(&[points], DType::U32),
            Tensor::zeros(&[points], DType::F32),
        ];
        let run = move |t: &mut [Tensor]| {
            let [x, c, codes, distance] = t else { unreachable!() };
            codebook::assign(&spec, x, c, codes, distance)
        };
        let check = move |t: &[Tensor]| {
            let [x, c, d] = [host(&t[0])?, host(&t[1])?, host(&t[3])?];
            let codes = t[2].to(engine::Device::Cpu).map_err(|e| e.to_string())?;
            let codes = codes.u32().map_err(|e| e.to_string())?;
            for n in places(points, 60) {
                let row = &x[n * width..(n + 1) * width];
                let far = |c: &[f32]| -> f64 {
                    row.iter().zip(c).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum()
                };
                let truth: Vec<f64> = c.chunks(width).map(far).collect();
                let least = truth.iter().copied().fold(f64::INFINITY, f64::min);
                close("distance", n, d[n], least, least, 1e-5)?;
                if truth[codes[n] as usize] > least * (1.0 + 1e-5) {
                    return Err(format!("point {n}: codeword {} is not the nearest", codes[n]));
                }
            }
            Ok(())
        };
        Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
    })
}

fn update(name: String, spec: Spec) -> Case {
    let Spec { points: n, width, codes: k } = spec;
    let work =
        Work { flops: (n * width) as u64, bytes: 4 * (n * width + n + k * width + k) as u64 };
    Case::new(name, work, Units::F32, move |_| {
        // Half of the points belong to one codeword: a skew that a serial sum would feel.
        let code = move |n: usize| if n.is_multiple_of(2) { 0 } else { (n * 7 % k) as u32 };
        let tensors = vec![
            f32s(&[n, width], 1, 1.0),
            Tensor::from_u32(&[n], (0..n).map(code).collect()),
            f32s(&[k, width], 2, 1.0),
            Tensor::zeros(&[k], DType::U32),
        ];
        let run = move |t: &mut [Tensor]| {
            let [x, codes, c, counts] = t else { unreachable!() };
            codebook::update(&spec, x, codes, c, counts)
        };
        let check = move |t: &[Tensor]| {
            let [x, c] = [host(&t[0])?, host(&t[2])?];
            for j in [0, 3.min(k - 1), k - 1] {
                let members: Vec<usize> = (0..n).filter(|&n| code(n) as usize == j).collect();
                for i in [0, width - 1] {
                    let sum: f64 = members.iter().map(|&n| f64::from(x[n * width + i])).sum();
                    if !members.is_empty() {
                        let mean = sum / members.len() as f64;
                        close("mean", j * width + i, c[j * width + i], mean, 1e-2, 1e-6)?;
                    }
                }
            }
            Ok(())
        };
        Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
    })
}
